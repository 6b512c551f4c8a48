"""upload.py BUCKET PREFIX FILE...: puts the files, lists them, and fetches them back into ./back"""
import os
import sys

import boto3

bucket, prefix, *files = sys.argv[1:]
# Credentials, and their renewal, are boto3's own affair. Only versions before 1.28 need to be told of an endpoint.
s3 = boto3.client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3"))

for name in files:
    s3.upload_file(name, bucket, prefix + os.path.basename(name))  # in parts from 8 MB on
os.makedirs("back", exist_ok=True)
for object in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
    print(object["Key"], object["Size"])
    s3.download_file(bucket, object["Key"], os.path.join("back", os.path.basename(object["Key"])))
