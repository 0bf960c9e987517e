#!/usr/bin/env bats
# Goal: whatever the pipe brings, a program ends with a status and a message, and delivers nothing that was not sent.
load helpers
bats_require_minimum_version 1.5.0

# hostile.c says what such a stream is, and what is checked. To repeat case 77: hostile 77 1 PROGRAM.
@test "2,000 hostile streams do no harm to dec" {
  run -0 "$BUILD/tests/hostile" 0 2000 "$dec"
  expect_equal "$output" "2000 cases"
}

@test "2,000 hostile streams do no harm to enc" {
  run -0 "$BUILD/tests/hostile" 0 2000 "$enc"
  expect_equal "$output" "2000 cases"
}
