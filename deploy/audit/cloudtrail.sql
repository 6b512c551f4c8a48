-- Amazon Athena: who did what, by CloudTrail's data events of S3. The table
-- cloudtrail_logs is the one that the CloudTrail console makes for Athena
-- (https://docs.aws.amazon.com/athena/latest/ug/cloudtrail-logs.html).
--
-- The access key id is of one session and so of one caller. Every session of a role
-- that the broker gives is here, whatever its name: who goes round the broker chooses
-- that himself. A row without a subject is of a session that the broker gave to
-- nobody: somebody went round it, or a record is missing. Look at those first:
-- ... AND i.access_key_id IS NULL
WITH roles AS (
  SELECT DISTINCT
    regexp_extract(role_arn, '::([0-9]{12}):role/', 1) || '/' || regexp_extract(role_arn, '([^/]+)$', 1) AS role
  FROM credential_broker_audit
  WHERE v = 1 AND role_arn IS NOT NULL
),
issued AS (
  SELECT
    access_key_id, issuer, subject, client, tenant, "grant", session_name,
    min("time") AS handed_out,
    min_by(address, "time") AS asked_from,
    min_by(request_id, "time") AS broker_request_id
  FROM credential_broker_audit
  WHERE v = 1 AND decision = 'allow' AND access_key_id IS NOT NULL
  GROUP BY access_key_id, issuer, subject, client, tenant, "grant", session_name
)
SELECT
  c.eventtime AS at,
  c.eventname AS event,
  json_extract_scalar(c.requestparameters, '$.bucketName') AS bucket,
  json_extract_scalar(c.requestparameters, '$.key') AS object_key,
  c.errorcode AS error,
  c.sourceipaddress AS used_from,
  i.issuer, i.subject, i.client, i.tenant, i."grant", i.handed_out, i.asked_from, i.broker_request_id,
  c.useridentity.accesskeyid AS access_key_id
FROM cloudtrail_logs c
LEFT JOIN issued i ON i.access_key_id = c.useridentity.accesskeyid
WHERE c.eventsource = 's3.amazonaws.com'
  AND split_part(c.useridentity.arn, ':', 5) || '/' || split_part(c.useridentity.arn, '/', 2) IN (SELECT role FROM roles)
ORDER BY c.eventtime
