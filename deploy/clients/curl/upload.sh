#!/bin/sh
# upload.sh FOLDER BUCKET PREFIX: puts what is in the folder, lists it, and fetches it back into ./back.
# Needs curl 7.88 and jq. Secrets reach curl by a pipe.
set -eu
from=$1 bucket=$2 prefix=$3
region=ap-northeast-1
credentials=$(sh credentials.sh)
get() { printf '%s' "$credentials" | jq -er "$1"; }
config=$(get '"user = \"\(.AccessKeyId):\(.SecretAccessKey)\"\nheader = \"x-amz-security-token: \(.SessionToken)\""')
s3() { # KEY BODY curl's options: S3 wants the digest of the body, which is a file
  key=$1 hash=$(sha256sum <"$2" | cut -d' ' -f1)
  shift 2
  printf '%s\n' "$config" | curl --config - --silent --show-error --fail-with-body --aws-sigv4 "aws:amz:$region:s3" \
    --header "x-amz-content-sha256: $hash" "https://$bucket.s3.$region.amazonaws.com/$key" "$@"
}

parts() { # FILE KEY: in parts of 8 MiB; S3 takes no part below 5 MiB but the last
  dir=$(mktemp -d)
  split --bytes=8388608 --numeric-suffixes=1 --suffix-length=4 "$1" "$dir/"
  id=$(s3 "$2?uploads=" /dev/null --request POST | sed -n 's:.*<UploadId>\(.*\)</UploadId>.*:\1:p')
  n=0 done=''
  for part in "$dir"/*; do
    n=$((n + 1))
    etag=$(s3 "$2?partNumber=$n&uploadId=$id" "$part" --request PUT --data-binary "@$part" --header 'content-type: application/octet-stream' \
      --dump-header - --output /dev/null | tr -d '\r' | sed -n 's/^[Ee][Tt][Aa][Gg]: *//p')
    done="$done<Part><PartNumber>$n</PartNumber><ETag>$etag</ETag></Part>"
  done
  printf '<CompleteMultipartUpload>%s</CompleteMultipartUpload>' "$done" >"$dir/all"
  s3 "$2?uploadId=$id" "$dir/all" --request POST --data-binary "@$dir/all" --header 'content-type: application/xml' >/dev/null
  rm -r "$dir"
}

for file in "$from"/*; do
  if [ "$(wc -c <"$file")" -gt 8388608 ]; then
    parts "$file" "$prefix${file##*/}"
  else
    s3 "$prefix${file##*/}" "$file" --request PUT --data-binary "@$file" --header 'content-type: application/octet-stream'
  fi
done
mkdir -p back
s3 "?list-type=2&prefix=$(jq -nr --arg p "$prefix" '$p | @uri')" /dev/null | grep -o '<Key>[^<]*' | cut -c6- | while read -r key; do
  printf '%s\n' "$key"
  s3 "$key" /dev/null --output "back/${key##*/}"
done
