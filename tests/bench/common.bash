# Shared by the benchmarks, which source it first. BUILD says where the programs are; $work is a
# folder of their own. Nothing that start has started outlives the script.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
self=$(realpath "$0")
cd "${self%/tests/bench/*}"
: "${BUILD:=$PWD/build}"
BUILD=$(cd "$BUILD" && pwd)
work=$(mktemp -d)
declare -A started=() # by process id
exec </dev/null

clean_up() {
  stop_all
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

# own_network ARG...: runs the script again in a network of its own. Goes on in there only.
own_network() {
  local flags=(--net)
  if [ -z "${BENCH_USER:-}" ]; then
    [ "$(id -u)" -eq 0 ] || flags+=(--user --map-root-user)
    BENCH_USER=$(id -u) unshare "${flags[@]}" -- "$self" "$@"
    exit
  fi
  ip link set lo up
}

pause() { # SECONDS
  read -rt "$1" <> <(:) || :
}

fail() { # TEXT...
  echo "${0##*/}: $*" >&2
  find "$work" -name '*.err' -size +0 -exec tail -n 3 {} + >&2
  exit 1
}

# start NAME COMMAND...: in the background, its id in $pid. What it says is in $work/NAME.err and in
# $work/NAME.out, which may be a named pipe.
start() {
  local name=$1
  shift
  : >"$work/$name.err"
  [ -p "$work/$name.out" ] || : >"$work/$name.out"
  "$@" <&0 1<>"$work/$name.out" 2>"$work/$name.err" &
  pid=$!
  started[$pid]=$name
}

# end PID [SECONDS]: asks it to end, asks again after so many seconds (5), and then makes it end.
end() {
  local limit=$((SECONDS + ${2:-5})) signal
  for signal in TERM TERM KILL; do
    kill -s "$signal" "$1" 2>/dev/null || break
    while kill -0 "$1" 2>/dev/null && [ $SECONDS -lt $limit ]; do pause 0.005; done
    limit=$((SECONDS + 4))
  done
  wait "$1" 2>/dev/null || :
  unset "started[$1]"
}

stop_all() {
  local id
  [ ${#started[@]} -eq 0 ] || kill "${!started[@]}" 2>/dev/null || :
  for id in "${!started[@]}"; do end "$id"; done
}

wait_for() { # PATTERN FILE...
  local limit=$((SECONDS + 20))
  until grep -qs -- "$@"; do
    [ $SECONDS -lt $limit ] || fail "waited in vain for '$1' in ${*:2}"
    pause 0.005
  done
}

# start_tool NAME COMMAND...: one that says its port, which is in $port then.
start_tool() {
  start "$@"
  wait_for '^port \|listening on' "$work/$1".{out,err}
  port=$(grep -ohP '(^port |listening on .*:)\K\d+$' "$work/$1".{out,err} | head -n 1)
}

value() { # KEY LINE: what the line says of it, or nothing
  grep -oP "(^| )$1=\K[^ ]*" <<<"$2" || :
}

resident() { # PID: in KiB
  awk '/^VmRSS/ { print $2 }' "/proc/$1/status"
}

machine() {
  echo "$(uname -srm), $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(date -u +%F)"
}

can_ssh() {
  [ "${BENCH_USER:-$(id -u)}" -eq 0 ] && command -v sshd ssh-keygen >/dev/null
}

# start_sshd ADDRESS [WORD]...: the words run it. Sets $ssh: the words that run a command through it.
start_sshd() {
  local address=$1 key
  shift
  rm -f "$work"/*_key*
  for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$work/${key}_key"; done
  mkdir -p /run/sshd
  printf '%s\n' "HostKey $work/host_key" "AuthorizedKeysFile $work/user_key.pub" 'PidFile none' \
    "ListenAddress $address:2222" 'StrictModes no' 'UsePAM no' 'PermitRootLogin yes' >"$work/sshd_config"
  start sshd "$@" "$(command -v sshd)" -D -e -f "$work/sshd_config"
  wait_for 'Server listening' "$work/sshd.err"
  ssh=("$(type -P ssh)" -T -F /dev/null -p 2222 -i "$work/user_key" -o IdentitiesOnly=yes -o LogLevel=ERROR
    -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o BatchMode=yes "root@$address")
}
