#!/usr/bin/env bash
# Copy a folder into a bucket: cluster/upload.sh FOLDER s3://BUCKET/PATH[?OPTION=VALUE&...]. What is there already is replaced.
# Keys and region come from the environment (AWS_ACCESS_KEY_ID, ...) or the role of the machine; the options are those of
# pyarrow.fs.FileSystem.from_uri, as in ?endpoint_override=http://HOST:PORT.
set -euo pipefail

if [ "$#" -ne 2 ]; then
  echo "usage: cluster/upload.sh FOLDER s3://BUCKET/PATH[?OPTION=VALUE&...]" >&2
  exit 2
fi
exec python -c '
import sys
from pathlib import Path
from pyarrow import fs

folder = Path(sys.argv[1]).resolve()
bucket, path = fs.FileSystem.from_uri(sys.argv[2])
fs.copy_files(str(folder), f"{path}/{folder.name}", source_filesystem=fs.LocalFileSystem(), destination_filesystem=bucket)
' "$1" "$2"
