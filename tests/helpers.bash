# Shared by all test files. A test starts things with start_*, which wait until they are ready, and
# need not stop anything: teardown ends what was started, by process id.

enc=$BUILD/uott-enc
dec=$BUILD/uott-dec
peer=$BUILD/tests/peer
load=$BUILD/tests/load

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
  truncate -s 0 "$name.out" "$name.err" # what one of the same name said counts no more
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

# move_clock SECONDS: what start_with_clock has started sees that much time pass.
move_clock() {
  echo $(($(cat clock) + $1)) >clock.new
  mv clock.new clock
}

# start_with_clock NAME COMMAND...: with a clock that move_clock moves; it runs on as usual, too.
start_with_clock() {
  local name=$1
  shift
  echo 0 >clock
  start "$name" env TEST_CLOCK="$PWD/clock" LD_PRELOAD="$BUILD/tests/clock.so" \
    ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" "$@"
}

counter() { # FILE KEY: as of the last line of counters in it
  grep -o "[ ]$2=[0-9]*" "$1" | tail -n 1 | cut -d = -f 2
}

# stream_bytes in | out: what enc, started as "enc" and $pid, has read or written of its streams.
stream_bytes() {
  local lines
  lines=$(grep -c stream_out enc.err || :)
  kill -USR1 "$pid" || return
  until [ "$(grep -c stream_out enc.err)" -gt "$lines" ]; do pause; done
  counter enc.err "stream_$1_bytes"
}

stream_out_grew() { # SINCE
  [ "$(stream_bytes out)" -gt "$1" ]
}

# Nothing is under way any more, so that time may pass in a leap.
stream_is_quiet() {
  local before
  before="$(stream_bytes out) $(stream_bytes in)"
  pause
  [ "$(stream_bytes out) $(stream_bytes in)" = "$before" ]
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
