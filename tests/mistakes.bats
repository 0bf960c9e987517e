#!/usr/bin/env bats
# Goal: what people get wrong at first leads to a message that says what to do.
load helpers
bats_require_minimum_version 1.5.0

@test "-r 5 5354 is refused: the time belongs to -r without a space" {
  run -2 "$enc" -r 5 5354 -- true
  [[ $output == *"bad address '5 5354': did you mean -r5?"* ]]
}

@test "if uott-enc faces uott-enc, the one that gets the frames says so, once" {
  start enc "$enc" -v 127.0.0.1:0 -- "$enc" 127.0.0.2:0 # either may say first where it listens
  wait_until said enc.err "listening on 127.0.0.1:"
  port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\)$/\1/p' enc.err)
  for text in 1 2; do printf %s "$text" | "$peer" post 127.0.0.1 "$port"; done
  wait_until said enc.err "uott-enc: the far side uses tags that this side never gave out: is it uott-enc, too?"
  kill -USR1 "$pid"
  wait_until said enc.err "udp_in=2 "
  kill "$pid"
  finish "$pid"
  expect_equal "$(grep -c "is it uott-enc, too" enc.err)" 1
}

@test "if only uott-dec has -u, it says that the far side waits for replies" {
  start_peer target collect 1 got
  start_enc enc 0 -- "$dec" -u "127.0.0.1:$port"
  printf question | "$peer" post 127.0.0.1 "$port"
  wait_until said enc.err "uott-dec: the far side waits for replies, and -u sends none"
}
