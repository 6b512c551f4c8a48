#!/bin/sh
# upload.sh FOLDER s3://BUCKET/PREFIX/: puts what is in the folder, lists it, and fetches it back into ./back
set -eu
aws s3 cp --no-progress --recursive "$1" "$2"
aws s3 ls "$2"
aws s3 cp --no-progress --recursive "$2" back
