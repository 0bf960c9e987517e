#!/usr/bin/env bats
# Goal: each byte of the stream is as uott(5) says, and nothing doubtful is delivered.
load helpers
bats_require_minimum_version 1.5.0

@test "enc with a way back numbers its clients from 65535 down" {
  mkfifo back
  exec 9<>back
  start_enc enc 0 <back
  for text in one two three; do printf %s $text | "$peer" post 127.0.0.1 "$port"; done
  wait_until has_bytes enc.out $((3 * 8 + 11))
  { frame 65535 one && frame 65534 two && frame 65533 three; } | cmp - enc.out
  exec 9>&-
}

@test "a one-way enc numbers its clients from 0 up" {
  start_enc enc -u 0
  for text in one two; do printf %s $text | "$peer" post 127.0.0.1 "$port"; done
  wait_until has_bytes enc.out $((2 * 8 + 6))
  { frame 0 one && frame 1 two; } | cmp - enc.out
}

@test "an empty datagram is a frame of length 0, not an end" {
  start_enc enc -u 0
  "$peer" post 127.0.0.1 "$port" </dev/null
  printf after | "$peer" post 127.0.0.1 "$port"
  wait_until has_bytes enc.out 21
  { frame 0 "" && frame 1 after; } | cmp - enc.out
}

@test "dec reads the example frame of the README" {
  hex=$(grep -A 3 'UOTT.*"hello"' "$BATS_TEST_DIRNAME/../README.md" | grep -oE '55 4f 54 54( [0-9a-f]{2})+')
  [ -n "$hex" ]
  xxd -r -p <<<"$hex" >example
  frame 65535 hello | cmp - example
  start_peer sink collect 1 got
  "$dec" -u "127.0.0.1:$port" <example
  finish "$pid"
  expect_equal "$(cat got)" hello
}

@test "a stream that is cut anywhere into two pieces delivers the same datagrams" {
  { frame 0 first && frame 1 "" && frame 0 third; } >stream
  size=$(wc -c <stream)
  start_peer sink collect $((3 * (size + 1))) got
  for cut in $(seq 0 "$size"); do
    { head -c "$cut" stream && pause && tail -c +$((cut + 1)) stream; } |
      "$dec" -u "127.0.0.1:$port"
  done
  wait_until has_bytes got $((10 * (size + 1)))
  for _ in $(seq 0 "$size"); do printf firstthird; done | cmp - got
}

@test "a stream that comes one byte at a time delivers the same datagrams" {
  { frame 0 first && frame 1 second; } >stream
  start_peer sink collect 2 got
  for i in $(seq "$(wc -c <stream)"); do
    tail -c "+$i" stream | head -c 1
  done | "$dec" -u "127.0.0.1:$port"
  finish "$pid"
  expect_equal "$(cat got)" firstsecond
}

@test "noise before the first frame is skipped and reported once, escaped" {
  start_peer sink collect 2 got
  { printf 'Welcome "home"\r\n\033[1mU UO UOT' && frame 0 one && frame 0 two; } |
    "$dec" -u "127.0.0.1:$port" 2>err
  finish "$pid"
  expect_equal "$(cat got)" onetwo
  expect_equal "$(wc -l <err)" 1
  expect_said err 'skipped 28 bytes that are no frame: "Welcome \"home\"\r\n\x1b[1mU UO UOT"'
}

@test "dec skips up to 64 KiB of noise, and more noise is an error" {
  start_peer sink collect 1 got
  { head -c 65536 /dev/zero && frame 0 one; } | "$dec" -u "127.0.0.1:$port" 2>err
  finish "$pid"
  expect_equal "$(cat got)" one
  status=0
  { head -c 65537 /dev/zero && frame 0 one; } | "$dec" -u "127.0.0.1:$port" 2>err || status=$?
  expect_equal "$status" 1
  expect_said err "no frame in the first 65536 bytes"
}

@test "a stream of noise alone is reported at its end" {
  printf 'sh: uott-dec: not found\n' | "$enc" -q 0 >out 2>err
  printf 'sh: uott-dec: not found\n' | "$enc" 0 >out 2>err
  expect_said err '"sh: uott-dec: not found\n"'
}

@test "a wrong byte after the first frame ends dec with status 1 and a message, and dec delivers nothing after it" {
  start_enc tap -u 0
  status=0
  { frame 0 one && frame 0 two && printf 'XUOTT' && frame 0 three; } |
    "$dec" -u "127.0.0.1:$port" 2>err || status=$?
  expect_equal "$status" 1
  expect_said err 'corrupt stream at byte 22: expected "UOTT", found 58 55 4f 54 54'
  expect_not_said err 'CR LF'
  frame 0 last | "$dec" -u "127.0.0.1:$port"
  wait_until has_bytes tap.out 34
  { frame 0 one && frame 0 two && frame 1 last; } | cmp - tap.out
}

@test "for CR LF damage, the message names a terminal" {
  status=0
  { frame 0 $'line\nline' && frame 0 two; } | sed 's/$/\r/' | head -c -1 |
    "$dec" -u 127.0.0.1:9 2>err || status=$?
  expect_equal "$status" 1
  expect_said err 'CR LF: use ssh -T, adb shell -T, no -t for docker and kubectl'
}

@test "dec does not deliver a frame that a terminal has damaged" {
  start_peer sink collect 1 got
  status=0
  { frame 0 before && { frame 0 $'line\nline' && frame 0 two; } | sed 's/$/\r/' | head -c -1; } >stream
  "$dec" -u "127.0.0.1:$port" <stream 2>err || status=$?
  expect_equal "$status" 1
  finish "$pid"
  expect_equal "$(cat got)" before
  expect_said err 'CR LF'
}

@test "a stream that ends anywhere inside a frame is an error, but the frames before it are delivered" {
  frame 0 whole >stream
  for cut in 4 5 7 8 9 12; do
    start_peer sink collect 1 got
    status=0
    { cat stream && head -c "$cut" stream; } | "$dec" -u "127.0.0.1:$port" 2>err || status=$?
    expect_equal "$status" 1
    expect_said err "ended inside a frame, at byte $((13 + cut))"
    finish "$pid"
    expect_equal "$(cat got)" whole
  done
}

control() { # TYPE BODY
  frame "$1" "$2" | sed 's/^UOTT/UOTC/'
}

@test "in both programs a control frame before HELLO is corruption" {
  for program in "$enc -q 127.0.0.1:0" "$dec -q 127.0.0.1:9"; do
    status=0
    # shellcheck disable=SC2086 # words
    control 2 12345678 | $program >out 2>err || status=$?
    expect_equal "$status" 1
    expect_said err 'a control frame of type 2 (ACK) before HELLO'
  done
}

@test "after HELLO, control frames of unknown types are skipped" {
  start_peer sink collect 2 got
  { control 1 $'\x01\x02' && control 99 "" && frame 0 one && control 1000 what && frame 0 two; } |
    "$dec" -u "127.0.0.1:$port" 2>err
  finish "$pid"
  expect_equal "$(cat got)" onetwo
  [ ! -s err ]
}

@test "enc drops and counts a frame whose tag belongs to no client, and reads on" {
  { frame 7 stray && frame 9 stray; } | "$enc" -v 127.0.0.1:0 >out 2>err
  expect_said err "drop_no_flow=2"
}

@test "a frame of length 65535 is valid: dec drops and counts its datagram, and reads on" {
  start_peer sink collect 1 got
  { printf 'UOTT\0\0\xff\xff' && head -c 65535 /dev/zero && frame 0 after; } |
    "$dec" -v -u "127.0.0.1:$port" 2>err
  finish "$pid"
  expect_equal "$(cat got)" after
  expect_said err "drop_too_big=1"
}
