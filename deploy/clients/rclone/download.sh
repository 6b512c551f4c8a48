#!/bin/sh
# download.sh BUCKET/PREFIX: lists what is there, and fetches it into ./back
set -eu
rclone lsf "uploads:$1"
rclone copy "uploads:$1" back
