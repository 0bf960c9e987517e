#!/usr/bin/env bats
# Goal: whatever the pipe brings, a program ends with a status and a message, and delivers nothing that was not sent.
load helpers
bats_require_minimum_version 1.5.0

half=250
! has_sanitizers || half=1000 # they see more
# To look for leaks at the end takes longer than a stream: tests/memory.bats does it.
export ASAN_OPTIONS=detect_leaks=0

# hostile.c says what such a stream is, and what is checked. To repeat case 77: hostile 77 1 PROGRAM.
try_streams() { # PROGRAM: on two processors
  start half "$BUILD/tests/hostile" 0 "$half" "$1"
  run -0 "$BUILD/tests/hostile" "$half" "$half" "$1"
  expect_equal "$output" "$half cases"
  finish "$pid"
  expect_equal "$status $(cat half.out)" "0 $half cases"
}

@test "hostile streams do no harm to dec" {
  try_streams "$dec"
}

@test "hostile streams do no harm to enc" {
  try_streams "$enc"
}
