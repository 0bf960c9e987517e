#!/usr/bin/env bats
# Goal: after the start a program keeps only what it needs, and says so where that cannot be.
# tests/unit/sandbox_test.c tries to get out. With SANDBOX_KILL=1 all tests show that nothing is
# missing in the lists of system calls.
load helpers
bats_require_minimum_version 1.5.0

dec_options=()

# expect_sandbox 0|1 PID: whether it is inside, in the builds that have a sandbox.
expect_sandbox() {
  local inside=$1
  case $BUILD in */san | */san/* | */portable* | */coverage*) inside=0 ;; esac
  expect_equal "$(sed -n 's/^NoNewPrivs:.//p' "/proc/$2/status")" "$inside"
  expect_equal "$(sed -n 's/^Seccomp:.//p' "/proc/$2/status")" $((2 * inside))
}

# start_pair [OPTION]...: enc starts dec by way of a shell; sets $pid, $port and $dec_pid.
start_pair() {
  local echo_port
  start_peer echo echo
  echo_port=$port
  start_enc enc "$@" 0 -- sh -c 'echo $$ >dec.pid; exec "$@"' sh "$dec" "${dec_options[@]}" "127.0.0.1:$echo_port"
  expect_equal "$(ask "$port" hello)" hello
  dec_pid=$(cat dec.pid)
}

@test "both programs are in a sandbox when they forward" {
  start_pair
  expect_sandbox 1 "$pid"
  expect_sandbox 1 "$dec_pid"
}

@test "COMMAND is outside" {
  start_enc enc 0 -- sh -c 'echo $$ >sleeper; exec sleep 1000'
  wait_until [ -s sleeper ]
  wait_until expect_sandbox 1 "$pid"
  expect_sandbox 0 "$(cat sleeper)"
}

@test "with --no-sandbox there is none" {
  dec_options=(--no-sandbox)
  start_pair --no-sandbox
  expect_sandbox 0 "$pid"
  expect_sandbox 0 "$dec_pid"
  expect_not_said enc.err "no sandbox"
}

@test "with -r there is none, and -v says why" {
  start_pair -r
  expect_sandbox 0 "$pid"
  expect_sandbox 1 "$dec_pid"
  expect_said enc.err "no sandbox: COMMAND would inherit it"
}
