#!/usr/bin/env bats
# Goal: whatever the pipe brings, a program ends with a status and a message, and delivers nothing that was not sent.
load helpers
bats_require_minimum_version 1.5.0

# Under sanitizers as many as possible; other builds try a few.
cases=200
if has_sanitizers; then cases=2000; fi

# hostile.c says what such a stream is, and what is checked. To repeat case 77: hostile 77 1 PROGRAM.
@test "hostile streams do no harm to dec" {
  run -0 "$BUILD/tests/hostile" 0 "$cases" "$dec"
  expect_equal "$output" "$cases cases"
}

@test "hostile streams do no harm to enc" {
  run -0 "$BUILD/tests/hostile" 0 "$cases" "$enc"
  expect_equal "$output" "$cases cases"
}
