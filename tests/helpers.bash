# Shared by all test files. A test starts things with start_*, which wait until they are ready, and
# need not stop anything: teardown ends what was started, by process id.

enc=$BUILD/uott-enc
dec=$BUILD/uott-dec
peer=$BUILD/tests/peer
# shellcheck disable=SC2034 # used by the test files
vectors=$BATS_TEST_DIRNAME/vectors

setup() {
  cd "$BATS_TEST_TMPDIR" || return 1
  : >pids
}

teardown() {
  stop_all
}

# start NAME COMMAND...: in the background; its output goes to NAME.out and NAME.err, its id to $pid.
# Descriptors 8 and 9 are those of the test alone, for the ends of pipes.
start() {
  local name=$1
  shift
  "$@" <&0 >"$name.out" 2>"$name.err" 3>&- 8>&- 9>&- &
  pid=$!
  echo "$pid" >>pids
}

# Ends what was started here, the last first, and waits for it.
stop_all() {
  local id
  [ -e pids ] || return 0
  while read -r id; do
    kill "$id" 2>/dev/null || :
    wait "$id" 2>/dev/null || :
  done < <(tac pids)
}

pause() {
  read -rt 0.01 <> <(:) || :
}

# wait_until COMMAND...: until it succeeds; fails after 30 s, which only a broken program needs.
wait_until() {
  local end=$((SECONDS + 30))
  until "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "waited in vain for: $*"
      tail -n 5 -- *.err
      return 1
    fi
    pause
  done
}

is_gone() {
  ! kill -0 "$1" 2>/dev/null
}

has_bytes() { # FILE COUNT
  [ "$(wc -c <"$1")" -ge "$2" ]
}

# finish PID: waits for its end; its exit status is in $status.
finish() {
  status=0
  wait "$1" || status=$?
}

# start_peer NAME MODE [ARG]...: sets $port.
start_peer() {
  local name=$1
  shift
  start "$name" "$peer" "$@"
  wait_until grep -q '^port ' "$name.out"
  port=$(sed -n 's/^port //p' "$name.out")
}

# start_enc NAME ARG...: sets $port; the first of ARG... that is "0" or ends in ":0" is the address.
start_enc() {
  local name=$1
  shift
  start "$name" "$enc" -v "$@"
  wait_until said "$name.err" "listening on"
  port=$(listening_port "$name.err")
}

listening_port() { # FILE
  sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$1" | head -n 1
}

# ask PORT TEXT [HOST]: sends TEXT as one datagram and prints the reply.
ask() {
  printf '%s' "$2" | "$peer" send "${3:-127.0.0.1}" "$1"
}

# frame TAG PAYLOAD: a data frame with a payload without NUL bytes.
frame() {
  local length=${#2} escaped
  printf -v escaped 'UOTT\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8)) \
    $((length & 255)) $((length >> 8))
  printf '%b%s' "$escaped" "$2"
}

# own_network COMMAND...: with a network of its own, which is gone afterwards.
own_network() {
  local options=(--net)
  [ "$(id -u)" -eq 0 ] || options+=(--user --map-root-user)
  unshare "${options[@]}" -- "$@" 3>&-
}

fail() {
  echo "$*"
  return 1
}

# said FILE TEXT: whether the text stands in FILE, which may not be there yet.
said() {
  [ -e "$1" ] && grep -qF -- "$2" "$1"
}

expect_said() {
  said "$1" "$2" || fail "expected '$2' in $1, which says: $(cat "$1")"
}

expect_not_said() {
  ! said "$1" "$2" || fail "did not expect '$2' in $1, which says: $(cat "$1")"
}

expect_equal() {
  [ "$1" = "$2" ] || fail "expected '$2', got '$1'"
}
