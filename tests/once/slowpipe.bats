#!/usr/bin/env bats
# Goal: the slow pipe of the tests changes no byte, ends with the status of its command, and stalls in
# one direction only. tests/bench/latency measures its rate and delay.
load ../helpers
bats_require_minimum_version 1.5.0

slowpipe=$BUILD/tests/slowpipe

@test "bytes arrive unchanged, both ways, with any rate, delay, jitter and buffer" {
  head -c 300000 /dev/urandom >sent
  for settings in "" "-d 20" "-d 5 -j 20" "-b 100" "-r 20000000" "-r 50000000 -d 20 -j 10 -b 5000" \
    "-r 1000000 -s 0.01:50000000 -s 0.02:0 -s 0.04:30000000"; do
    # shellcheck disable=SC2086 # words
    "$slowpipe" $settings cat <sent >got
    cmp sent got
  done
}

@test "the end of input reaches the command after all bytes that the pipe holds" {
  expect_equal "$(printf hello | "$slowpipe" -d 50 -r 8000 sh -c 'cat; echo " and the end"')" "hello and the end"
}

@test "the output of the command arrives, even if a child of the command still holds the pipe" {
  expect_equal "$("$slowpipe" -d 50 -b 3 sh -c 'echo hello; sleep 60 & echo $! >id')" hello
  kill "$(cat id)"
}

@test "it ends with the status of the command" {
  run -7 "$slowpipe" -d 10 sh -c 'exit 7'
  run -137 "$slowpipe" sh -c 'kill -9 $$'
  run -127 "$slowpipe" ./no-such-command
  run -126 "$slowpipe" /dev/null
}

@test "wrong usage ends with status 2" {
  run -2 "$slowpipe"
  run -2 "$slowpipe" -x true
  run -2 "$slowpipe" -r fast true
  run -2 "$slowpipe" -b 0 true
  run -2 "$slowpipe" -s 5 true
  run -2 "$slowpipe" -s 5:1, true
}

@test "the command gets SIGTERM too, even while the pipe holds many bytes" {
  start slow "$slowpipe" -r 8000 sh -c 'echo $$ >id; exec sleep 60' </dev/zero
  wait_until [ -s id ]
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 143
  is_gone "$(cat id)"
}

@test "the slow pipe reads no more than its buffer holds" {
  head -c 100000 /dev/zero >file
  start slow "$slowpipe" -r 1 -b 5000 sleep 60 <file
  wait_until grep -q 'pos:.5000$' "/proc/$pid/fdinfo/0"
}

@test "when the reader ends, the command ends" {
  "$slowpipe" -d 10 sh -c 'yes; echo $? >status' | head -n 1 >first
  expect_equal "$(cat first)" y
  wait_until [ -s status ]
}

@test "one direction goes on while the other is stalled" {
  start slow "$slowpipe" -b 1000 sh -c 'echo hello; exec sleep 60' </dev/zero
  wait_until said slow.out hello
}

@test "datagrams pass through it both ways" {
  start_peer echo echo
  start_enc enc 0 -- "$slowpipe" -r 10000000 -d 5 -j 5 "$dec" "127.0.0.1:$port"
  expect_equal "$(ask "$port" "there and back")" "there and back"
}
