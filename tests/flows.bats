#!/usr/bin/env bats
# Goal: flows come and go for months: idle flows expire, limits evict flows, and tags are used again.
load helpers
bats_require_minimum_version 1.5.0

@test "an idle flow expires on both sides, and the client's next datagram begins a new flow" {
  start_peer echo echo
  start_enc enc -i 0.2 0 -- "$dec" -v -i 0.2 "127.0.0.1:$port"
  start client "$peer" twice 127.0.0.1 "$port"
  client=$pid
  wait_until said enc.err "uott-enc: flow 65535: expired"
  wait_until grep -qE "uott-dec: flow 65535: (expired|closed)" enc.err
  kill -USR1 "$client"
  finish "$client"
  expect_equal "$status" 0
  expect_said enc.err "uott-enc: flow 65534: 127.0.0.1:"
  expect_said enc.err "uott-dec: flow 65534: new"
}

# keeps_used_flows PROGRAM IDLE_OF_ENC IDLE_OF_DEC: PROGRAM is the one that forgets flows after 10 s.
# Of three flows one is idle, one has a datagram after 6 s, and one a reply.
keeps_used_flows() {
  local program=$1 own
  start_peer target hold
  start_with_clock enc "$enc" -v -i "$2" 127.0.0.1:0 -- "$dec" -v -i "$3" "127.0.0.1:$port"
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
  own=$("$peer" free-port)
  say() { printf '%s' "$1" | socat -t0 - "UDP4-SENDTO:127.0.0.1:$port,bind=127.0.0.1:$own"; }
  start waiting bash -c 'printf held | exec "$@"' - "$peer" send 127.0.0.1 "$port"
  waiting=$pid
  wait_until said target.out held
  say 1
  wait_until said enc.err "uott-dec: flow 65534: new"
  printf idle | "$peer" post 127.0.0.1 "$port"
  wait_until said enc.err "uott-dec: flow 65533: new"
  move_clock 6
  say release
  finish "$waiting"
  expect_equal "$(cat waiting.out)" held
  move_clock 6
  wait_until said enc.err "uott-$program: flow 65533: expired"
  expect_not_said enc.err "uott-$program: flow 65535: expired"
  expect_not_said enc.err "uott-$program: flow 65534: expired"
}

# bats test_tags=preload
@test "datagrams in either direction keep a flow alive" {
  keeps_used_flows enc 10 1000
  keeps_used_flows dec 1000 10
}

@test "dec closes the sockets of expired flows" {
  start_peer echo echo
  start_enc enc -i 0.2 0 -- sh -c "echo \$\$ >dec.pid; exec '$dec' -i 0.2 127.0.0.1:$port"
  sockets() { find "/proc/$(cat dec.pid)/fd" -lname 'socket:*' | wc -l; }
  "$peer" clients 300 127.0.0.1 "$port"
  no_sockets() { [ "$(sockets)" -eq 0 ]; }
  wait_until no_sockets
}

# start_limited LIMIT [OPTION OF dec]...: starts enc and a dec with LIMIT descriptors, and sets $port.
start_limited() {
  local limit=$1
  shift
  start_peer echo echo
  start_with_clock enc "$enc" -v 127.0.0.1:0 -- \
    bash -c 'ulimit -n "$0"; exec "$@"' "$limit" "$dec" -v "$@" "127.0.0.1:$port"
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
}

# bats test_tags=preload
@test "under ulimit -n 32 dec evicts flows that have been idle for 5 s, and all clients get replies" {
  start_limited 32
  for _ in 1 2 3; do
    for i in $(seq 16); do expect_equal "$(ask "$port" "$i")" "$i"; done
    move_clock 6
  done
  expect_said enc.err "uott-dec: flow 65535: evicted"
  expect_not_said enc.err "no socket"
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  expect_said enc.err "drop_no_socket=0"
}

# bats test_tags=preload
@test "with N flows and -n N, a new client makes dec evict a flow, while enc drops and counts its datagrams" {
  start_limited 1000 -n 2
  for i in 1 2; do expect_equal "$(ask "$port" "$i")" "$i"; done
  move_clock 6
  expect_equal "$(ask "$port" 3)" 3
  expect_said enc.err "uott-dec: flow 65535: evicted"
  stop_all
  : >pids
  start_enc few -n 2 -u 0
  for i in 1 2 3; do printf %s "$i" | "$peer" post 127.0.0.1 "$port"; done
  wait_until said few.err "dropped 1 datagram: no flow is free for a new client"
  { frame 0 1 && frame 1 2; } | cmp - few.out
}

# bats test_tags=preload
@test "dec does not evict a flow that was used in the last 5 s: the new client's datagram is counted" {
  start_limited 1000 -n 1
  expect_equal "$(ask "$port" first)" first
  printf other | "$peer" post 127.0.0.1 "$port"
  wait_until said enc.err "uott-dec: dropped 1 datagram: no socket could be opened for the flow; last: flow 65534"
  expect_not_said enc.err evicted
}

# bats test_tags=preload
@test "an evicted client's next datagram opens a new socket" {
  start_limited 1000 -n 1
  enc_pid=$pid
  start client "$peer" twice 127.0.0.1 "$port"
  client=$pid pid=$enc_pid
  wait_until said client.out reply
  move_clock 6
  expect_equal "$(ask "$port" other)" other
  expect_said enc.err "flow 65535: evicted"
  move_clock 6
  kill -USR1 "$client"
  finish "$client"
  expect_equal "$status" 0
  expect_equal "$(grep -c 'uott-dec: flow 65535: new' enc.err)" 2
}

@test "CLOSE from enc ends the flow at dec, whatever the idle timeout of dec is" {
  start_peer echo echo
  start_enc enc -i 0.2 0 -- "$dec" -v -i 1000 "127.0.0.1:$port"
  expect_equal "$(ask "$port" hello)" hello
  wait_until said enc.err "uott-dec: flow 65535: closed"
}

# bats test_tags=preload
@test "an idle tunnel with flows sends something every 15 s, and a tunnel without flows is silent" {
  start_peer echo echo
  start_with_clock enc "$enc" -v -i 100 127.0.0.1:0 -- "$dec" "127.0.0.1:$port"
  wait_until said enc.err "listening on"
  expect_equal "$(ask "$(listening_port enc.err)" hello)" hello
  for _ in 1 2 3; do
    before=$(stream_bytes out)
    move_clock 16
    wait_until stream_out_grew "$before"
  done
  wait_until stream_is_quiet
  move_clock 100
  wait_until said enc.err "flow 65535: expired"
  wait_until stream_is_quiet
  before=$(stream_bytes out)
  move_clock 100
  expect_equal "$(stream_bytes out)" "$before"
  expect_not_said enc.err dead
}

# A reply to an old client is on its way while a new client may already have its tag.
race_against_late_reply() { # MODE OF far
  start_with_clock enc "$enc" -v "0.0.0.0:0" -- "$BUILD/tests/far" "$1"
  enc_pid=$pid
  wait_until said enc.err "listening on"
  start client "$peer" locals "$(listening_port enc.err)"
  client=$pid pid=$enc_pid
  wait_until said client.out "asked once"
  wait_until said enc.err "flow 65535: 127"
  wait_until stream_is_quiet
  move_clock 301
  wait_until said enc.err "flow 65535: expired"
  kill -USR1 "$client"
  wait_until said client.out "half of all tags"
  wait_until stream_is_quiet
  move_clock 301
  wait_until said enc.err "flow 32768: expired"
  kill -USR1 "$client"
  finish "$client"
  expect_equal "$(cat client.err)" ""
  expect_said client.out "everybody got their own reply"
  kill "$enc_pid"
  finish "$enc_pid"
  expect_equal "$(counter enc.err flows_total)" $((65536 + 64))
}

# bats test_tags=preload
@test "with control frames, a late reply never reaches the new client of its tag" {
  race_against_late_reply hello
  expect_said enc.err "drop_no_flow=1 "
}

# bats test_tags=preload
@test "without control frames, a late reply never reaches the new client of its tag" {
  race_against_late_reply plain
  expect_said enc.err "drop_no_flow=2 "
}
