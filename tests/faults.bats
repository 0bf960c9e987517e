#!/usr/bin/env bats
# Goal: when a system call fails, the programs go on, or end with a message and status 1. They never
# crash, hang or look again and again, and the books balance.
# bats file_tags=preload
load helpers
bats_require_minimum_version 1.5.0

setup() {
  cd "$BATS_TEST_TMPDIR" || return 1
  : >pids
  start_peer echo echo
  target=$port
}

# start_case WHERE ASSIGNMENT...: starts enc, which starts dec, as $pid. WHERE is the program that
# the faults are for: "enc", "dec", "retry" (enc with -r) or "socket" (dec on a socket). Descriptor 6
# has the messages of both, and ends when both have ended. (A new process costs more than most of
# what it does here, and there are 1,000 cases: bash does what it can.)
start_case() {
  local where=$1 retry=() program=uott-enc far=("$dec" -v -t 0.02 "127.0.0.1:$target")
  shift
  case $where in
  retry) retry=(-r0.05) ;;
  dec) program=uott-dec ;;
  socket) program=uott-dec far=(socat - "EXEC:$dec -v -t 0.02 127.0.0.1 $target") ;;
  esac
  exec 6< <(
    # shellcheck disable=SC2163 # they are assignments
    export "$@" FAULT_IN="$program" LD_PRELOAD="$BUILD/tests/faults.so" \
      ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 # that takes longer than the case
    exec "$enc" -v -t 5 "${retry[@]}" "127.0.0.1:$port" -- "${far[@]}" 2>&1 >/dev/null
  )
  pid=$!
}

# read_until WORDS: reads messages into $text. Returns 0 if one has these words, 1 at their end, and
# more if none comes for 10 s.
read_until() {
  local line
  while IFS= read -rt 10 -u 6 line || return; do
    text+=$line$'\n'
    [[ $line != *"$1"* ]] || return 0
  done
}

# 50 datagrams of 5 clients. They wait in the socket of enc, so that it gets them at once.
send_fifty() {
  local i fd fds=()
  kill -STOP "$pid"
  for i in {1..5}; do exec {fd}<>"/dev/udp/127.0.0.1/$port" && fds+=("$fd"); done
  for i in {1..50}; do printf "%$((i % 7 * 200))s." >&"${fds[i % 5]}"; done
  kill -CONT "$pid"
  for fd in "${fds[@]}"; do exec {fd}>&-; done
}

# Whether a datagram is answered. Some may be lost.
is_carried() {
  local fd byte=
  for _ in {1..30}; do
    exec {fd}<>"/dev/udp/127.0.0.1/$port"
    printf . >&"$fd"
    read -rt 0.3 -N 1 -u "$fd" byte
    exec {fd}>&-
    [ -z "$byte" ] || return 0
    ! is_gone "$pid" || return 1
  done
  return 1
}

# Whether enc waits, or has ended.
rests() {
  local stat
  for _ in {1..200}; do
    { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 0
    [[ $stat != *') '[SZ]' '* ]] || return 0
    pause
  done
  return 1
}

# Whether the sums of the last line of counters of uott-$1 are right, if there is one.
balances() {
  local line=${text##*"uott-$1: udp_in="} word
  local -A n
  [ "$line" != "$text" ] || return 0
  line=udp_in=${line%%$'\n'*}
  for word in $line; do n[${word%=*}]=${word#*=}; done
  ((n[udp_in] == n[frames_out] + n[queued] + n[drop_queue_full] + n[drop_stale] + n[drop_codel] +
    n[drop_no_tag] + n[drop_pipe_closed] &&
    n[frames_in] == n[udp_out] + n[drop_too_big] + n[drop_send_failed] + n[drop_no_flow] +
    n[drop_no_socket] && n[flows_total] == n[flows] + n[expired] + n[evicted] + n[closed]))
}

# Whether a message has the reason of a fault.
says_why() {
  local line faults=() messages=''
  while IFS= read -r line; do
    if [[ $line = fault:* ]]; then faults+=("${line##*: }"); else messages+=$line$'\n'; fi
  done <<<"$text"
  for line in "${faults[@]}"; do
    # The latter as libc says it.
    if [[ $messages = *"$line"* || $messages = *"Memory allocation failure"* ]]; then return 0; fi
  done
  return 1
}

again='read|writev|sendmsg|epoll_wait|poll|recvmsg|recvmmsg|sendmmsg|sendto' # what may succeed a moment later

# try_case WHERE ASSIGNMENT...: prints what is wrong, if anything is.
try_case() {
  local carried=no
  text='' status=0
  start_case "$@"
  read_until "listening on"
  case $? in
  0)
    send_fifty
    is_carried && rests && is_carried && is_carried && carried=yes
    rests || echo "does not rest"
    kill "$pid"
    ;;
  1) ;;
  *) echo "hangs at the start" ;;
  esac
  read_until "no such message"
  [ $? -eq 1 ] || { echo "hangs at the end" && kill -9 "$pid"; }
  wait "$pid" || status=$?
  exec 6<&-
  [[ $text != *"did not end by itself"* || $text = *"cannot wait for the end"* ]] || echo "dec hangs at the end"
  balances enc || echo "enc does not balance"
  balances dec || echo "dec does not balance"
  if [ "$status" -gt 127 ]; then
    echo "status $status"
  elif [ "$status" -gt 0 ]; then
    says_why || echo "status $status, and no reason"
  elif [ $carried = no ]; then
    echo "carries nothing"
  fi
  [[ $status -eq 0 || $* != *CALL=@($again)\ *=@(EINTR|EAGAIN|ENOBUFS)\ * ]] || echo "does not try again"
  [[ $* = *FAULT_CALL* || $text != *dropped* ]] || echo "drops datagrams"
}

# Sets $port. (It is known before: enc may be unable to tell.)
choose_port() {
  until port=$("$peer" free-port); do :; done
}

# Tries the cases WORKER, WORKER + WORKERS, and so on, and those with AFTER in them until there are not
# so many calls. Bad ones go to the file "bad".
try_some() {
  local i after case wrong
  set +eET # bats would stop at each status, and look at each command
  trap - DEBUG ERR EXIT
  trap 'kill "$pid"; exit' TERM
  choose_port
  for ((i = $1; i < ${#cases[@]}; i += $2)); do
    for after in 0 1 5; do
      read -ra case <<<"${cases[i]/AFTER/FAULT_AFTER=$after}"
      while
        try_case "${case[@]}" >"wrong$1"
        [[ $text = *"Address already in use"* ]] # a client may have got the port
      do
        choose_port
      done
      mapfile -t wrong <"wrong$1"
      [ ${#wrong[@]} -eq 0 ] || printf '%s: %s\n%s\n' "${case[*]}" "${wrong[*]}" "$text" >>bad
      [[ $text = *fault:* ]] || break
      echo "${cases[i]}" >>seen
      [[ ${cases[i]} = *AFTER* ]] || break
    done
  done
}

# Tries the cases of standard input, some at the same time.
try_all() {
  local i workers=()
  mapfile -t cases
  for ((i = 0; i < 2 * $(nproc); i++)); do
    try_some "$i" $((2 * $(nproc))) 2>"log$i" 3>&- &
    workers+=($!)
  done
  printf '%s\n' "${workers[@]}" >>pids
  wait "${workers[@]}"
  [ ! -s bad ] || fail "$(cat bad)"
}

# once WHERE CALL...: prints cases for each call and error.
once() {
  local where=$1 call error errors
  shift
  for call; do
    errors=(EINTR EAGAIN ENOBUFS ENOMEM EMFILE EPERM EIO)
    case $call in
    close | *alloc) errors=(its_own) ;;
    epoll_ctl) errors=(EINTR EAGAIN ENOBUFS ENOMEM EMFILE EIO) ;; # EPERM means a regular file
    esac
    for error in "${errors[@]}"; do
      echo "$where FAULT_CALL=$call FAULT_ERRNO=$error FAULT_COUNT=1 AFTER"
    done
  done
}

# each WHERE CALL...: tries these calls, each of which has to fail.
each() {
  local where=$1 call
  once "$@" >list
  try_all <list
  shift
  for call; do
    grep -q "^$where FAULT_CALL=$call " seen || fail "$call did not fail"
  done
}

# Those of both programs. Each build has its own ways to wait and to speak to sockets.
both=(read writev sendto socket getsockname getsockopt setsockopt pipe fstat fcntl getaddrinfo malloc calloc close)
if nm -D "$enc" | grep -q recvmmsg; then
  own=(epoll_create1 epoll_ctl epoll_wait recvmmsg sendmmsg)
else
  own=(poll recvmsg sendmsg realloc)
fi

# bats test_tags=each-call
@test "when a call of enc fails once, the tunnel goes on or says why it ends" {
  each enc "${both[@]}" bind getentropy posix_spawnp waitpid
}

# bats test_tags=each-call
@test "when a call of dec fails once, the tunnel goes on or says why it ends" {
  each dec "${both[@]}" connect recv open dup2
  each socket sendmsg
}

@test "when a call that waits, or one for datagrams, fails once, the tunnel goes on or says why it ends" {
  each enc "${own[@]}"
  each dec "${own[@]}"
}

@test "with -r, COMMAND is run again when it cannot be started or spoken to" {
  once retry pipe posix_spawnp read writev >list
  try_all <list
}

@test "what only makes it faster or nicer may fail for ever" {
  for call in getsockopt setsockopt fstat open dup2 ioctl; do
    for where in enc dec socket; do echo "$where FAULT_CALL=$call FAULT_ERRNO=EPERM"; done
  done >list
  try_all <list
}

@test "reads, writes and batches that are cut short lose nothing" {
  for where in enc dec socket; do
    for seed in {1..20}; do echo "$where FAULT_SHORT=1 FAULT_SEED=$seed"; done
  done >list
  try_all <list
}

@test "calls that fail at random, and are cut short, end in no crash, hang or silence" {
  printf -v calls '%s,' "${both[@]}" "${own[@]}" bind connect recv open dup2 ioctl getentropy waitpid \
    posix_spawnp
  for where in enc dec socket retry; do
    for seed in {1..10}; do
      echo "$where FAULT_CALL=${calls%,} FAULT_RATE=$((seed * 2)) FAULT_SHORT=1 FAULT_SEED=$seed"
    done
  done >list
  try_all <list
}
