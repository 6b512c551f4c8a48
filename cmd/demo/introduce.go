package main

import (
	"io"
	"strings"
	"text/template"
)

// introduction is what a person reads once all is ready.
const introduction = `
The credential broker, on this machine only.
{{if .Page}}
  Open this:  {{.Page}}
{{end}}
  broker      {{.Broker}}
  local Auth0 {{.Issuer}}   (mode {{.Mode}})
  local AWS   {{.S3}}       STS and S3; bucket {{.Bucket}}, region {{.Region}}

Try it in another terminal (curl, jq, AWS CLI):

  # Alice of org_acme signs in
  TOKEN=$(curl -s {{.Issuer}}oauth/token -d grant_type=password -d username=alice@acme.test \
    -d password=demo -d audience={{.Audience}} | jq -r .access_token)

  # what she may reach, and the credentials for it
  curl -s -H "Authorization: Bearer $TOKEN" {{.Broker}}/v1/grants
  curl -s -H "Authorization: Bearer $TOKEN" {{.Broker}}/v1/credentials

  # her SDK fetches them by itself and goes straight to S3
  export AWS_CONTAINER_CREDENTIALS_FULL_URI={{.Broker}}/v1/credentials
  export AWS_CONTAINER_AUTHORIZATION_TOKEN="Bearer $TOKEN"
  export AWS_DEFAULT_REGION={{.Region}} AWS_EC2_METADATA_DISABLED=true
  echo hello > hello.txt
  aws --endpoint-url {{.S3}} s3 cp hello.txt s3://{{.Bucket}}/tenants/org_acme/hello.txt
  aws --endpoint-url {{.S3}} s3 ls s3://{{.Bucket}}/tenants/org_acme/

  # the proof, from this folder: every way out is tried, and the way round the broker
  echo "$TOKEN" > alice.jwt
{{- if eq .Mode "forwarded"}}
  curl -s {{.Issuer}}oauth/token -d grant_type=password -d username=alice@acme.test -d password=demo \
    -d audience={{.Audience}} -d scope=openid | jq -r .id_token > alice-id.jwt
  BOB=$(curl -s {{.Issuer}}oauth/token -d grant_type=password -d username=bob@globex.test \
    -d password=demo -d audience={{.Audience}} | jq -r .access_token)
  AWS_CONTAINER_AUTHORIZATION_TOKEN="Bearer $BOB" aws --endpoint-url {{.S3}} s3 cp hello.txt s3://{{.Bucket}}/tenants/org_globex/bobs.txt
{{- end}}
  go run ./cmd/credential-broker doctor --config {{.Config}} --s3-endpoint {{.S3}} \
    --token-file alice.jwt{{if eq .Mode "forwarded"}} --other-token-file alice-id.jwt --other-object s3://{{.Bucket}}/tenants/org_globex/bobs.txt{{end}}

  # another tenant, a neighbour, the root: AccessDenied, by S3 itself
  aws --endpoint-url {{.S3}} s3 cp hello.txt s3://{{.Bucket}}/tenants/org_globex/hello.txt
  aws --endpoint-url {{.S3}} s3 ls s3://{{.Bucket}}/tenants/org_acme2/
  aws --endpoint-url {{.S3}} s3 ls s3://{{.Bucket}}/

Users (password demo): alice@acme.test and amy@acme.test in org_acme, bob@globex.test in
org_globex, mallory@nowhere.test in none.{{if eq .Mode "minted"}} Machine client: reports-service, secret demo-secret.{{end}}
What the broker decides goes to this terminal, a line of JSON each. Ctrl-C stops it all.

`

// ownIntroduction is that of --config.
const ownIntroduction = `
The credential broker, with {{.Config}}.
{{if .Page}}
  Open this:  {{.Page}}
{{end}}
  broker      {{.Broker}}
  Auth0       {{.Issuer}}   (mode {{.Mode}})
  bucket      {{.Bucket}}, region {{.Region}}{{if .S3}}, at {{.S3}}{{end}}

The page's address has to be known to the Auth0 application (callback, log-out and web origins) and to the
bucket's CORS configuration. What the broker decides goes where audit.output says, a line of JSON each.
Ctrl-C stops it all.

`

// introduce writes the addresses and the lines to try.
func introduce(w io.Writer, s *story) error {
	text := introduction
	if s.Own {
		text = ownIntroduction
	}
	t, err := template.New("introduction").Parse(strings.TrimPrefix(text, "\n"))
	if err != nil {
		return err
	}
	return t.Execute(w, s)
}
