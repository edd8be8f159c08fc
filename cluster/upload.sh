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
try:
    bucket, path = fs.FileSystem.from_uri(sys.argv[2])
    into = f"{path}/{folder.name}"
    fs.copy_files(str(folder), into, source_filesystem=fs.LocalFileSystem(), destination_filesystem=bucket)
except (OSError, ValueError) as error:
    sys.exit("error: %s: cannot be copied to: %s" % (sys.argv[2], " ".join(str(error).split())))
' "$1" "$2"
