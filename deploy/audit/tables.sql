-- Amazon Athena: the broker's audit records, one JSON object a line, plain or gzip.
-- Put the bucket and the folder that the records are shipped to. Members that are
-- absent from a record are NULL. What each means: deploy/audit.md.
CREATE EXTERNAL TABLE credential_broker_audit (
  v int,
  `time` string,
  action string,
  decision string,
  code string,
  reason string,
  request_id string,
  issuer string,
  subject string,
  client string,
  tenant string,
  `grant` string,
  role_arn string,
  bucket string,
  prefix string,
  access array<string>,
  `user` string,
  session_name string,
  access_key_id string,
  expiration string,
  source string,
  policy_sha256 string,
  token_sha256 string,
  address string,
  user_agent string
)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
WITH SERDEPROPERTIES ('ignore.malformed.json' = 'true')  -- a line that was torn is no record
LOCATION 's3://YOUR-LOG-BUCKET/credential-broker/audit/'
