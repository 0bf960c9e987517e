# All test files share these functions. A test starts programs with start_*, which waits until they
# are ready. A test stops nothing: teardown ends all of them, by process id. What is called often
# starts no process where bash can do it: that takes longer than most of what a test does.

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

# start NAME COMMAND...: runs it in the background. Its output goes to NAME.out and NAME.err, its id
# to $pid. Only the test itself has descriptors 8 and 9, which it uses for the ends of pipes, and the
# one of pause.
start() {
  local name=$1
  shift
  : >"$name.out" 2>"$name.err" # forgets the output of an earlier NAME
  "$@" <&0 >"$name.out" 2>"$name.err" 3>&- 8>&- 9>&- {silence}>&- &
  pid=$!
  echo "$pid" >>pids
}

# Ends all that the test started, the last one first, and waits for it.
stop_all() {
  local i ids
  [ -e pids ] || return 0
  mapfile -t ids <pids
  for ((i = ${#ids[@]} - 1; i >= 0; i--)); do
    kill "${ids[i]}" 2>/dev/null || :
    wait "${ids[i]}" 2>/dev/null || :
  done
}

# A pipe that is always empty: reading it waits without a new process.
exec {silence}<> <(:)

pause() {
  read -rt 0.01 -u "$silence" || :
}

# wait_until COMMAND...: waits until it succeeds. Fails after 30 s: only a broken program takes so long.
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

# in_state LETTER PID: R runs, S sleeps, T is stopped, Z has ended.
in_state() {
  grep -q "^State:.$1" "/proc/$2/status"
}

has_bytes() { # FILE COUNT
  [ "$(wc -c <"$1")" -ge "$2" ]
}

# finish PID: waits for its end, and stores its exit status in $status.
finish() {
  status=0
  wait "$1" || status=$?
}

# start_tool NAME COMMAND...: waits until one of our tools says its port, and sets $port.
start_tool() {
  start "$@"
  wait_until said "$1.out" "port "
  port=$(sed -n 's/^port //p' "$1.out")
}

start_peer() { # NAME MODE [ARG]...
  start_tool "$1" "$peer" "${@:2}"
}

# start_listening NAME COMMAND...: waits until it says where it listens, and sets $port.
start_listening() {
  start "$@"
  wait_until said "$1.err" "listening on"
  port=$(listening_port "$1.err")
}

start_enc() { # NAME ARG...
  start_listening "$1" "$enc" -v "${@:2}"
}

listening_port() { # FILE
  sed -n '/listening on .*:[0-9]*$/{s/.*://p;q}' "$1"
}

# ask PORT TEXT [HOST]: sends TEXT as one datagram and prints the reply.
ask() {
  printf '%s' "$2" | "$peer" send "${3:-127.0.0.1}" "$1"
}

# move_clock SECONDS: moves the clock of what start_with_clock has started.
move_clock() {
  printf '%020d' $(($(sed 's/^0*//' clock) + $1)) 1<>clock
}

# start_with_clock NAME COMMAND...: starts it with a clock that move_clock can move. The clock also
# runs as usual.
start_with_clock() {
  local name=$1
  shift
  printf '%020d' 0 1<>clock
  start "$name" env TEST_CLOCK="$PWD/clock" LD_PRELOAD="$BUILD/tests/clock.so" \
    ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" "$@"
}

counter() { # FILE KEY: prints its value from the last line of counters in FILE
  awk -v key=" $2=" 'at = index($0, key) { split(substr($0, at + length(key)), value, " ") }
    END { print value[1] }' "$1"
}

# counted KEY VALUE [NAME]: whether NAME (enc), which runs as $pid, counts that many.
counted() {
  kill -USR1 "$pid" || return
  pause
  [ "$(counter "${3:-enc}.err" "$1")" = "$2" ]
}

# stream_bytes in | out: prints how many bytes enc has read or written. It runs as "enc" and $pid.
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

# Whether nothing is under way any more, so that the test can move the clock. ACKs wait up to 0.1 s.
stream_is_quiet() {
  local before
  before="$(stream_bytes out) $(stream_bytes in)"
  timeout 0.2 "$peer" hold || :
  [ "$(stream_bytes out) $(stream_bytes in)" = "$before" ]
}

# frame TAG PAYLOAD: prints a data frame. The payload has no NUL bytes.
frame() {
  local length=${#2} escaped
  printf -v escaped 'UOTT\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8)) \
    $((length & 255)) $((length >> 8))
  printf '%b%s' "$escaped" "$2"
}

# Options of unshare, for somebody who is not root.
as_root=()
[ "$EUID" -eq 0 ] || as_root=(--user --map-root-user)

# in_own_network FUNCTION [ARG]...: runs it with its own network, which has loopback. It knows all
# functions of the test, and what it starts ends with it. (What bash prints of "1<>" is wrong: these
# functions come from this file.)
in_own_network() {
  export BATS_TEST_DIRNAME
  declare -f >functions
  # shellcheck disable=SC2016 # for bash
  unshare --net "${as_root[@]}" -- bash -c 'source ./functions && source "$0" || exit
    set -e
    trap stop_all EXIT
    ip link set lo up
    "$@"' "${BASH_SOURCE[0]}" "$@" 3>&-
}

# Prints the words that run a command in the network of a process.
words_inside() { # PID
  local user=''
  [ "$EUID" -eq 0 ] || user='--user --preserve-credentials'
  echo "nsenter --target $1 $user --mount --net --root --wd=."
}

# Prints the words that run a command with its own mounts. In a chroot, unshare cannot make all private.
own_mounts() { # [OPTION OF unshare]...
  local options=(--mount "$@" "${as_root[@]}")
  unshare "${options[@]}" true 2>/dev/null || options+=(--propagation unchanged)
  echo unshare "${options[@]}"
}

# start_network NAME [WORD]...: a network of its own, with its own /run. It is that of $pid. The words
# run it.
start_network() {
  # shellcheck disable=SC2016,SC2046 # for sh; words
  start "$@" $(own_mounts --net) -- sh -c \
    'mount -t tmpfs none /run && ip link set lo up && echo up && exec "$0" hold' "$peer"
  wait_until said "$1.out" up
}

# start_dnsmasq PORT [OPTION]...: a DNS server that knows lab.test and example.org, on loopback. The
# words in $inside, if any, run it.
start_dnsmasq() {
  start dnsmasq "${inside[@]}" "$(PATH=$PATH:/usr/sbin command -v dnsmasq)" --keep-in-foreground --no-resolv \
    --no-hosts --conf-file=/dev/null --pid-file= --user="$(id -un)" --listen-address=127.0.0.1 \
    --bind-interfaces --port="$1" --address=/lab.test/127.9.9.9 --address=/example.org/127.9.9.9 \
    --log-facility=- "${@:2}"
  wait_until said dnsmasq.err "started"
}

# shows PATTERN: whether a line of the screen of tmux is like this.
shows() {
  tmux -S tmux capture-pane -p >screen.err && grep -qxE -- "$1" screen.err
}

has_sanitizers() {
  nm -D "$enc" | grep -q __asan_init
}

fail() {
  echo "$*"
  return 1
}

# said FILE TEXT: whether FILE contains TEXT. FILE may not exist yet, and may have NUL bytes.
said() {
  local parts
  [ -e "$1" ] || return 1
  mapfile -d '' parts <"$1"
  [[ ${parts[*]} = *"$2"* ]]
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

# start_sshd [LINE]...: an sshd with its own keys on a free port of loopback, and these lines in its
# configuration. To be called in setup_file; "$(ssh_to host)" logs in.
start_sshd() {
  local dir=$PWD port
  : >pids
  [ "$EUID" -ne 0 ] || mkdir -p /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f host_key
  ssh-keygen -q -t ed25519 -N '' -f user_key
  ssh-keygen -q -t ed25519 -N '' -f forced_key
  cp user_key.pub authorized_keys
  port=$("$peer" free-port)
  cat >sshd_config <<END
Port $port
ListenAddress 127.0.0.1
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
END
  printf '%s\n' "$@" >>sshd_config
  cat >ssh_config <<END
Host host forced
  HostName 127.0.0.1
  Port $port
  User $(id -un)
  IdentityFile $dir/user_key
  IdentitiesOnly yes
  UserKnownHostsFile $dir/known_hosts
  StrictHostKeyChecking accept-new
  LogLevel ERROR
  BatchMode yes
END
  sed -e 's/^Host .*/Host forced/' -e 's/user_key/forced_key/' ssh_config >forced_config
  start sshd "$(PATH=$PATH:/usr/sbin command -v sshd)" -D -e -f "$dir/sshd_config"
  wait_until said sshd.err "Server listening"
}

ssh_to() { # HOST: prints the words that run a command there
  echo ssh -T -F "$BATS_FILE_TMPDIR/ssh_config" "$1"
}

# start_relay: the socket sshd.socket leads to sshd, for those in other networks.
start_relay() {
  start relay socat UNIX-LISTEN:sshd.socket,fork \
    "TCP:127.0.0.1:$(sed -n 's/^Port //p' "$BATS_FILE_TMPDIR/sshd_config")"
  wait_until [ -S sshd.socket ]
}
