#!/usr/bin/env bats
# Goal: the demonstration shows what the README promises, on a terminal and elsewhere, or fails.
load ../helpers

demo=$BATS_TEST_DIRNAME/../../examples/demo

# shows FILE: it ran to its end, and says how long the queries took, both times.
shows() {
  grep -Eq -- '-l 0 .*[0-9]+ ms' "$1"
  grep -Eq 'by default .*[0-9]+ ms' "$1"
  grep -q '200 clients got their own replies' "$1"
  grep -Eq '^  udp_in=[0-9]+' "$1"
}

@test "it shows bars that grow on a terminal, plain text elsewhere, and leaves no file" {
  mkdir tmp
  export TMPDIR=$PWD/tmp
  start terminal script -qec "$demo" /dev/null
  "$demo" >plain.out
  finish "$pid"
  expect_equal "$status" 0
  shows plain.out
  ! grep -q '[[:cntrl:]]' plain.out || fail "there are control characters in plain text"
  shows terminal.out
  [ "$(tr '\r' '\n' <terminal.out | grep -c 'by default.* ms')" -gt 10 ]
  expect_equal "$(ls tmp)" ""
}

@test "it ends with status 1 and a message when a program does not work" {
  ln -s "$BUILD/uott-enc" "$BUILD/tests" .
  ln -s "$(type -P false)" uott-dec
  BUILD=$PWD run "$demo"
  expect_equal "$status" 1
  [[ $output == *"demo: the tunnel: "* ]]
}
