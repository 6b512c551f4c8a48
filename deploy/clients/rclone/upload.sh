#!/bin/sh
# upload.sh FOLDER BUCKET/PREFIX: puts what is in the folder
exec rclone copy "$1" "uploads:$2"
