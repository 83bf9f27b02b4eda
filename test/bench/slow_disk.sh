# What the benchmarks with a slow disk share; sourced by them. The disk is
# null_server: it takes $service_us for each request, one after the other, and
# 2 ms for a flush. The cache is on tmpfs. Needs root, fio, and
#   bazel build -c opt //tools:pcachefs //tools:pcachectl //test/bench:null_server
# shellcheck shell=bash

bin=${BIN:-bazel-bin}
dir=$(mktemp -d /dev/shm/pcachefs-bench.XXXXXX)
disks=()

finish() {
  set +e
  timeout 60 "$bin/tools/pcachectl" stop --force "$dir/mnt" >/dev/null 2>&1
  umount --lazy "$dir/mnt" 2>/dev/null
  for name in "${disks[@]}"; do
    umount --lazy "$dir/$name" 2>/dev/null
  done
  wait
  rm -rf "$dir"
}
trap finish EXIT

# start_disk NAME SERVICE_US: the disk is $dir/NAME/file, of 1 GiB.
start_disk() {
  mkdir "$dir/$1"
  disks+=("$1")
  "$bin/test/bench/null_server" --size=1073741824 --transport=dev_fuse \
    --threads=40 --service_us="$2" --fsync_us=2000 "$dir/$1" \
    >"$dir/$1.log" 2>&1 &
  until grep --quiet ready "$dir/$1.log"; do
    kill -0 "$!" || exit 1
    sleep 0.1
  done
}

# start_cache SIZE IMAGES [FLAG...]: served in $dir/mnt.
start_cache() {
  local size=$1 images=$2
  shift 2
  mkdir -p "$dir/mnt"
  "$bin/tools/pcachefs" --cache="$dir/cache" --cache_size="$size" \
    --backing="$images" "$@" "$dir/mnt" </dev/null >"$dir/log" 2>&1
}

# run_fio WHAT FILE OPTION...: random, direct; prints a line of results.
run_fio() {
  local what=$1 file=$2 result
  shift 2
  result=$(mktemp "$dir/fio.XXXXXX")
  fio --name=job --filename="$file" --bs=4k --ioengine=io_uring --direct=1 \
    --norandommap --randrepeat=0 --output-format=json "$@" >"$result"
  python3 - "$what" "$result" <<'END'
import json, sys
job = json.load(open(sys.argv[2]))["jobs"][0]
side = job["write"] if job["write"]["iops"] > job["read"]["iops"] else job["read"]
part = side["clat_ns"]["percentile"]
print("%-34s %7d /s   p99 %7.1f ms   p99.9 %7.1f ms   longest %7.1f ms" % (
    sys.argv[1], side["iops"], part["99.000000"] / 1e6,
    part["99.900000"] / 1e6, side["lat_ns"]["max"] / 1e6))
END
}

# status_number IMAGE KEY
status_number() {
  "$bin/tools/pcachectl" status --json "$dir/mnt" | python3 -c '
import json, sys
status = json.load(sys.stdin)
images = status.get("images") or status["status"]["images"]
print([i for i in images if i["name"] == sys.argv[1]][0][sys.argv[2]])' "$@"
}
