-- Amazon Athena: who did what, by S3's server access logs, which hold the session's
-- ARN and no access key id. The table s3_access_logs is the one of AWS's guide
-- (https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-s3-access-logs-to-identify-requests.html).
--
-- A session name is of one caller in one tenant for ever, and of every session that
-- he had: which of them it was, is told by the times alone. Every session of a role
-- that the broker gives is here: a row without a subject is of one that it gave to
-- nobody. Who goes round the broker in mode forwarded can take a name that it gave;
-- CloudTrail's access key id tells that.
WITH roles AS (
  SELECT DISTINCT
    regexp_extract(role_arn, '::([0-9]{12}):role/', 1) || '/' || regexp_extract(role_arn, '([^/]+)$', 1) AS role
  FROM credential_broker_audit
  WHERE v = 1 AND role_arn IS NOT NULL
),
sessions AS (
  SELECT
    'arn:aws:sts::' || regexp_extract(role_arn, '::([0-9]{12}):role/', 1)
      || ':assumed-role/' || regexp_extract(role_arn, '([^/]+)$', 1) || '/' || session_name AS session_arn,
    issuer, subject, client, tenant,
    min("time") AS first_handed_out,
    max("time") AS last_handed_out
  FROM credential_broker_audit
  WHERE v = 1 AND decision = 'allow' AND access_key_id IS NOT NULL
  GROUP BY role_arn, session_name, issuer, subject, client, tenant
)
SELECT
  l.requestdatetime AS at,
  l.operation,
  l.bucket_name AS bucket,
  l."key" AS object_key,
  l.httpstatus AS status,
  l.errorcode AS error,
  l.remoteip AS used_from,
  s.issuer, s.subject, s.client, s.tenant, s.first_handed_out, s.last_handed_out
FROM s3_access_logs l
LEFT JOIN sessions s ON s.session_arn = l.requester
WHERE split_part(l.requester, ':', 5) || '/' || split_part(l.requester, '/', 2) IN (SELECT role FROM roles)
ORDER BY l.requestdatetime
