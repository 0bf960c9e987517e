#!/usr/bin/env bats
# Goal: when a pipe stalls, only datagrams are lost. Frames stay whole, memory stays bounded, and the
# other direction goes on.
load helpers
bats_require_minimum_version 1.5.0

# start_stalled [OPTION]...: starts enc. It writes into the FIFO "out" (descriptor 9), which nobody
# reads yet.
start_stalled() {
  mkfifo out
  exec 9<>out
  "$enc" -v "$@" 127.0.0.1:0 <&0 >out 2>enc.err 3>&- 8>&- 9>&- &
  pid=$!
  echo "$pid" >>pids
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
}

# all_counted COUNT: whether enc has received that many datagrams.
all_counted() {
  kill -USR1 "$pid"
  [ "$(counter enc.err udp_in)" = "$1" ]
}

@test "with a stalled reader, memory stays bounded, and a full queue drops and counts datagrams" {
  start_stalled -u -l 0
  "$peer" blast 9000 1200 127.0.0.1 "$port"
  wait_until said enc.err "the queue is full; last: flow 0"
  [ "$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")" -lt 16000 ]
  read_all out stream
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  out=$(counter enc.err frames_out)
  lost=$(($(counter enc.err drop_queue_full) + $(counter enc.err drop_kernel)))
  expect_equal "$((out + lost))" 9000
  expect_equal "$(counter enc.err udp_in)" "$((out + $(counter enc.err drop_queue_full)))"
  wait_until has_bytes stream $((out * 1208))
  "$dec" -v -u 127.0.0.1:9 <stream 2>dec.err
  expect_equal "$(counter dec.err frames_in)" "$out"
}

# read_all FIFO FILE: copies the FIFO to FILE from now on, and closes the test's own end of the FIFO.
read_all() {
  exec 8<"$1" 9>&-
  cat <&8 >"$2" 3>&- &
  exec 8<&-
}

@test "when the pipe is read again, the frames in the queue leave whole and in order" {
  start_stalled -u -l 0
  "$peer" blast 300 1200 127.0.0.1 "$port"
  wait_until all_counted 300
  read_all out stream
  wait_until has_bytes stream $((300 * 1208))
  start_peer sink collect 300 got
  "$dec" -u "127.0.0.1:$port" <stream
  finish "$pid"
  (fold -w 1200 got && echo) | sed 's/ x*$//' >numbers
  seq 0 299 | cmp - numbers
}

@test "replies still arrive while the other direction is stalled" {
  mkfifo in
  exec 8<>in
  start_stalled <in
  start ask "$peer" send 127.0.0.1 "$port" <<<question
  asking=$pid
  wait_until said enc.err "flow 65535"
  "$peer" blast 1000 1200 127.0.0.1 "$port"
  frame 65535 answer >&8
  finish "$asking"
  expect_equal "$(cat ask.out)" answer
}

@test "after SIGTERM, enc still writes the queued frames to a slow reader" {
  start_stalled -u -l 0 -t 1000
  "$peer" blast 300 1200 127.0.0.1 "$port"
  wait_until all_counted 300
  kill "$pid"
  read_all out stream
  finish "$pid"
  expect_equal "$status" 0
  wait_until has_bytes stream $((300 * 1208))
}

@test "if nobody reads, enc ends within the linger time after SIGTERM, and at once after a second signal" {
  start_stalled -u -l 0 -t 0
  "$peer" blast 300 1200 127.0.0.1 "$port"
  wait_until all_counted 300
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  rm out enc.err
  start_stalled -u -l 0 -t 1000
  "$peer" blast 300 1200 127.0.0.1 "$port"
  wait_until all_counted 300
  kill "$pid"
  wait_until gone_after_another_signal
  finish "$pid"
  expect_equal "$status" 0
}

gone_after_another_signal() {
  ! kill "$pid" 2>/dev/null
}

@test "a reader that closes inside a frame is an error" {
  start_stalled -u -l 0
  head -c 40000 /dev/zero | "$peer" post 127.0.0.1 "$port"
  head -c 40000 /dev/zero | "$peer" post 127.0.0.1 "$port"
  wait_until all_counted 2
  exec 9>&-
  finish "$pid"
  expect_equal "$status" 1
  expect_said enc.err "closed the pipe inside a frame"
}

@test "an idle tunnel does not wake up" {
  start_peer echo echo
  start_enc enc 0 -- sh -c "echo \$\$ >dec.pid; exec '$dec' 127.0.0.1:$port"
  expect_equal "$(ask "$port" hello)" hello
  wait_until stays_asleep # the last ACKs leave before
}

switches() {
  awk '/^voluntary/ {print $2}' "/proc/$pid/status" "/proc/$(cat dec.pid)/status"
}

stays_asleep() {
  local before
  before=$(switches)
  timeout 0.5 "$peer" hold || :
  is_asleep && [ "$(switches)" = "$before" ]
}

is_asleep() {
  in_state S "$pid" && in_state S "$(cat dec.pid)"
}

@test "a far side that begins with tag 65535 and never acknowledges gets all replies" {
  # The replay of a recording never acknowledges, nor does a program that knows only data frames.
  start_peer echo echo
  big=$(printf 'x%.0s' {1..1000})
  mkfifo in
  exec 9<>in
  start dec "$dec" "127.0.0.1:$port" <in
  for i in $(seq 65535 -1 65496); do frame "$i" "$big"; done >stream
  cat stream >&9
  wait_until has_bytes dec.out $((26 + 40 * 1008))
  exec 9>&-
}

@test "if the far side never says anything, enc still sends the frames that it keeps back at first" {
  start_enc enc 0 -- sh -c 'cat >stream; :'
  "$peer" blast 30 1000 127.0.0.1 "$port"
  wait_until has_bytes stream $((30 * 1008))
}
