#!/usr/bin/env bats
# Goal: with -r the tunnel survives the end of its transport, and clients notice only a pause.
load helpers
bats_require_minimum_version 1.5.0

# Prints the reply, or nothing if the transport does not run just now.
ask_again() { # PORT SECONDS
  printf hello | timeout "$2" "$peer" send 127.0.0.1 "$1" || :
}

is_answered() {
  [ "$(ask_again "$1" 0.5)" = hello ]
}

ran() { # COUNT: whether COMMAND has run that often
  [ "$(wc -l <runs)" -ge "$1" ]
}

# Prints the words of a COMMAND that writes its process id into "runs" and runs its arguments.
noted() {
  # shellcheck disable=SC2016 # for sh
  printf '%s\n' sh -c 'echo $$ >>runs; exec "$@"' sh
}

start_retrying() { # ARG... -- COMMAND...
  : >runs
  start_enc enc -t 0.1 -r0.05 "$@"
}

@test "when dec is killed, enc runs it again, and the client keeps its flow" {
  start_peer echo echo
  mapfile -t note < <(noted)
  start_retrying 0 -- "${note[@]}" "$dec" -v "127.0.0.1:$port"
  port=$(listening_port enc.err)
  start client "$peer" twice 127.0.0.1 "$port"
  client=$pid
  wait_until said client.out reply
  kill -9 "$(head -n 1 runs)"
  wait_until ran 2
  wait_until said enc.err "running it again"
  kill -USR1 "$client"
  finish "$client"
  expect_equal "$status" 0
  expect_equal "$(grep -c "uott-enc: flow .*: 127" enc.err)" 1
  expect_equal "$(grep -c "uott-dec: flow 65535: new" enc.err)" 2
  expect_said enc.err "ended with status 137: running it again in 0."
}

@test "-r does not run a COMMAND again that cannot be run" {
  run -127 "$enc" -r 127.0.0.1:0 -- no-such-command
  run -127 "$enc" -r 127.0.0.1:0 -- sh -c 'exit 127'
  run -126 "$dec" -r 127.0.0.1:9 -- sh -c 'exit 126'
}

@test "a signal ends the program with status 0 while it waits for the next run" {
  start enc "$enc" -v -r1000 127.0.0.1:0 -- sh -c 'exit 3'
  wait_until said enc.err "ended with status 3: running it again"
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
}

@test "COMMAND ends at each byte of the way back: a reply comes whole or not at all" {
  start_peer echo echo
  # Run n lets n bytes pass. HELLO, ACK and one reply have 39 bytes.
  start_retrying 0 -- bash -c 'n=$(wc -l <runs); echo >>runs; "$0" -t 0 "$1" | head -c "$n"' \
    "$dec" "127.0.0.1:$port"
  port=$(listening_port enc.err)
  until ran 42; do
    reply=$(ask_again "$port" 0.05)
    [ -z "$reply" ] || expect_equal "$reply" hello
  done
  expect_said enc.err "ended inside a frame, at byte 38"
  expect_not_said enc.err corrupt
}

@test "COMMAND ends at each byte of the way there: no half frame gets into the next stream" {
  start_peer echo echo
  start_retrying 0 -- bash -c 'n=$(wc -l <runs); echo >>runs; head -c "$n" | "$0" -t 0 "$1"' \
    "$dec" "127.0.0.1:$port"
  port=$(listening_port enc.err)
  until ran 42; do
    reply=$(ask_again "$port" 0.05)
    [ -z "$reply" ] || expect_equal "$reply" hello
  done
  expect_said enc.err "uott-dec: the stream ended inside a frame, at byte 12"
  expect_not_said enc.err corrupt
}

@test "each stream begins with tag 65535, whichever client sends first" {
  start_retrying 0 -- sh -c 'echo >>runs; n=$(wc -l <runs); head -c 13 >"stream$n"; [ $n -lt 3 ] || exec sleep 1000'
  printf first | "$peer" post 127.0.0.1 "$port"
  wait_until [ -e stream1 ]
  wait_until ran 2
  printf other | "$peer" post 127.0.0.1 "$port"
  wait_until ran 3
  printf third | "$peer" post 127.0.0.1 "$port"
  wait_until has_bytes stream3 13
  frame 65535 first | cmp - stream1
  frame 65535 other | cmp - stream2
  frame 65535 third | cmp - stream3
}

# bats test_tags=preload
@test "datagrams that arrive between two runs of COMMAND wait for up to 1 s" {
  start_with_clock enc "$enc" -v -r1000 127.0.0.1:0 -- \
    sh -c '[ -e ready ] || exit 3; exec cat 3>&1 >stream' # the way back stays open
  has_failed() { [ "$(grep -c "running it again" enc.err)" -ge "$1" ]; }
  for failure in 1 2 3 4 5 6 7 8; do # until the next wait is about ten seconds
    wait_until has_failed "$failure"
    move_clock 60
  done
  wait_until has_failed 9
  : >ready
  port=$(listening_port enc.err)
  printf stale | "$peer" post 127.0.0.1 "$port"
  wait_until counted udp_in 1
  kill -STOP "$pid"
  move_clock 60
  printf fresh | "$peer" post 127.0.0.1 "$port"
  kill -CONT "$pid"
  wait_until has_bytes stream 13
  frame 65535 fresh | cmp - stream
  counted drop_stale 1
}

@test "a reply that arrives when one stream ends does not get into the next stream" {
  start_peer target hold
  local target=$pid
  start dec "$dec" -v -r1 "127.0.0.1:$port" -- bash -c '
    if [ -e second ]; then exec cat >stream; fi
    : >second
    printf "UOTT\xff\xff\x05\x00hello"
    until [ -e arrived ]; do read -rt 0.01 <> <(:); done
    printf "this is no frame" && : >corrupted
    exec sleep 60'
  local dec_pid=$pid
  wait_until grep -q held target.out
  kill -STOP "$dec_pid"
  printf release | "$peer" post 127.0.0.1 "$port"
  finish "$target"
  : >arrived
  wait_until [ -e corrupted ]
  kill -CONT "$dec_pid"
  wait_until [ -e stream ]
  kill "$dec_pid"
  finish "$dec_pid"
  expect_equal "$(wc -c <stream)" 0
  expect_said dec.err "drop_pipe_closed=1"
}

# bats test_tags=preload
@test "without -r, a transport that is silent for 45 s is an error" {
  start_peer echo echo
  mapfile -t note < <(noted)
  : >runs
  start_with_clock enc "$enc" -v 127.0.0.1:0 -- "${note[@]}" "$dec" "127.0.0.1:$port"
  wait_until said enc.err "listening on"
  expect_equal "$(ask "$(listening_port enc.err)" hello)" hello
  wait_until stream_is_quiet
  kill -STOP "$(cat runs)"
  before=$(stream_bytes out)
  move_clock 20
  wait_until stream_out_grew "$before"
  expect_not_said enc.err "dead"
  move_clock 50
  finish "$pid"
  expect_equal "$status" 1
  expect_said enc.err "the transport is dead: nothing came for 45 s"
  wait_until is_gone "$(cat runs)"
}

# bats test_tags=preload
@test "-r kills a dead transport and runs it again, and the client gets replies" {
  start_peer echo echo
  mapfile -t note < <(noted)
  : >runs
  start_with_clock enc "$enc" -v -r 127.0.0.1:0 -- "${note[@]}" "$dec" "127.0.0.1:$port"
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
  expect_equal "$(ask "$port" hello)" hello
  kill -STOP "$(cat runs)"
  printf lost | "$peer" post 127.0.0.1 "$port"
  wait_until counted udp_in 2
  move_clock 46
  wait_until ran 2
  wait_until is_answered "$port"
  expect_said enc.err "the transport is dead"
}

@test "dec with -r runs enc again as its COMMAND" {
  start_peer echo echo
  mapfile -t note < <(noted)
  : >runs
  listen=$("$peer" free-port)
  start dec "$dec" -v -r0.05 "127.0.0.1:$port" -- "${note[@]}" "$enc" -v "$listen"
  wait_until said dec.err "listening on"
  expect_equal "$(ask "$listen" hello)" hello
  kill -9 "$(cat runs)"
  wait_until ran 2
  wait_until is_answered "$listen"
  expect_said dec.err "flow 65535: closed"
}

@test "each run of COMMAND gets the limit of open files that enc started with" {
  : >runs
  start enc bash -c 'ulimit -Sn 300; exec "$0" -v -r0.1 -u 127.0.0.1:0 -- sh -c "ulimit -Sn >>runs; exit 3"' "$enc"
  wait_until ran 3
  expect_equal "$(sort -u runs)" 300
}

@test "dec runs COMMAND again even if its flows use all descriptors" {
  start_peer echo echo
  : >runs
  start dec bash -c 'ulimit -n 32; exec "$0" -v -r0.05 "$@"' "$dec" "127.0.0.1:$port" -- \
    bash -c 'echo >>runs; for i in {10..69}; do printf "UOTT\\x$i\0\1\0x"; done'
  wait_until ran 3
  expect_not_said dec.err "Too many open files"
}

@test "while enc waits for the end of a COMMAND that ignores SIGTERM, it queues datagrams and answers SIGUSR1" {
  start_retrying -l 0 -t 0.1 0 -- bash -c 'trap "" TERM; echo $$ >>runs; printf corrupt-from-here; printf "%070000d" 0
    [ "$(wc -l <runs)" -gt 1 ] || while :; do read -rt 0.05 <> <(:); done
    exec cat 3>&1 >stream'
  wait_until said enc.err "no frame in the first 65536 bytes"
  "$peer" blast 2000 100 127.0.0.1 "$port"
  wait_until counted udp_in 2000 # SIGUSR1, and its answer
  kill -0 "$(head -n 1 runs)"
  kill -9 "$(head -n 1 runs)"
  wait_until has_bytes stream 1
  wait_until ran 2
  counted drop_kernel 0
}

@test "-r tries again after an error that may pass, even at the first start, but not after a permanent one" {
  cp "$(type -P true)" busy
  exec 8>>busy # a program that is being written: ETXTBSY
  start enc "$enc" -v -r0.05 127.0.0.1:0 -- ./busy
  wait_until said enc.err "cannot run './busy': Text file busy"
  wait_until said enc.err "'./busy' did not start: running it again"
  exec 8>&-
  wait_until said enc.err "'./busy' ended with status 0: running it again"
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  run -126 "$enc" -r 127.0.0.1:0 -- /dev/null
}

@test "SIGUSR1 prints the counters even while the queue empties at the end" {
  start_enc enc -t 30 -l 0 0 -- sleep 1000
  for _ in 1 2 3 4 5; do head -c 30000 /dev/zero | "$peer" post 127.0.0.1 "$port"; done
  wait_until counted udp_in 5
  kill "$pid"
  before=$(grep -c udp_in enc.err)
  kill -USR1 "$pid"
  printed() { [ "$(grep -c udp_in enc.err)" -gt "$before" ]; }
  wait_until printed
  kill "$pid" # the second signal stops the wait
  finish "$pid"
  expect_equal "$status" 0
}
