#!/usr/bin/env bats
# Goal: an error concerns one datagram only, and ends or stalls nothing else.
load helpers
bats_require_minimum_version 1.5.0

@test "a target that refuses datagrams does not end the tunnel, which reaches it when it starts later" {
  port=$("$peer" free-port)
  target=$port
  start_enc enc 0 -- "$dec" -v "127.0.0.1:$target"
  for _ in 1 2 3 4 5; do printf lost | "$peer" post 127.0.0.1 "$port"; done
  wait_until said enc.err 'flow 65531: new'
  start late socat -T 60 "UDP4-RECVFROM:$target,bind=127.0.0.1,fork" PIPE
  wait_until ask_once "$port"
}

ask_once() {
  printf again | timeout 1 "$peer" send 127.0.0.1 "$1"
}

@test "dec reports a target that refuses datagrams, even without -v" {
  target=$("$peer" free-port)
  mkfifo in
  exec 9<>in
  start dec "$dec" "127.0.0.1:$target" <in
  for tag in 0 1 2 3; do frame $tag lost >&9; done
  wait_until said dec.err "nobody listens at the target, or the datagram cannot reach it; last: 127.0.0.1:$target"
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  exec 9>&-
}

@test "if a send fails because an earlier datagram was refused, the datagram is sent again once" {
  # A one-way dec receives nothing, so the send of the second datagram reports the refused first one.
  target=$("$peer" free-port)
  mkfifo in
  exec 9<>in
  start dec "$dec" -v -u "127.0.0.1:$target" <in
  dec_pid=$pid
  frame 0 refused >&9
  wait_until said dec.err "flow 0: new"
  wait_until first_was_sent
  start late socat -u "UDP4-RECV:$target,bind=127.0.0.1" CREATE:got
  wait_until [ -e got ]
  frame 0 arrives >&9
  wait_until has_bytes got 7
  expect_equal "$(cat got)" arrives
  kill "$dec_pid"
  exec 9>&-
  finish "$dec_pid"
  expect_said dec.err "udp_out=2 "
  expect_said dec.err "refused=1 "
  expect_said dec.err "drop_send_failed=0"
}

# SIGUSR1 shows the counters.
first_was_sent() {
  kill -USR1 "$dec_pid"
  said dec.err "udp_out=1 "
}

lose_the_route() {
  ip route add unreachable 198.51.100.0/24
  ip route add 198.51.100.1 dev lo
  mkfifo in
  exec 9<>in
  start dec "$dec" -v 198.51.100.1:53 <in
  cat stream >&9
  wait_until said dec.err "flow 1: new"
  ip route del 198.51.100.1 dev lo
  cat stream >&9
  wait_until counted drop_send_failed 2 dec
  kill "$pid"
  wait "$pid"
}

@test "an unreachable target does not end dec, and each datagram is counted" {
  { frame 0 one && frame 1 two; } >stream
  in_own_network lose_the_route
  expect_said dec.err "dropped"
}

@test "a reply to a client that has ended does not end the tunnel" {
  start_peer hold hold
  hold=$port
  start_enc enc 0 -- "$dec" "127.0.0.1:$hold"
  printf question | "$peer" post 127.0.0.1 "$port"
  wait_until said hold.out held
  printf release | "$peer" post 127.0.0.1 "$hold"
  start_peer echo echo
  expect_equal "$(kill -0 "$(sed -n 2p pids)" && echo alive)" alive
}

@test "a stranger's datagram never reaches a client" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  expect_equal "$(ask "$port" hello)" hello
  # The socket of dec is connected: the kernel refuses the stranger, so dec cannot count anything.
  source=$(ss -Hnup | grep '"uott-dec"' | grep -oE '127.0.0.1:[0-9]+' | head -n 1)
  [ -n "$source" ]
  run "$peer" send 127.0.0.1 "${source##*:}" <<<stranger
  [ "$status" -ne 0 ]
}
