#!/usr/bin/env bats
# Goal: flows come and go for months: idle ones are forgotten, limits evict, tags come back.
load helpers
bats_require_minimum_version 1.5.0

@test "an idle flow expires on both sides, and the client's next datagram makes a new one" {
  start_peer echo echo
  start_enc enc -i 0.2 0 -- "$dec" -v -i 0.2 "127.0.0.1:$port"
  start client "$peer" twice 127.0.0.1 "$port"
  client=$pid
  wait_until said enc.err "uott-enc: flow 65535: expired"
  wait_until said enc.err "uott-dec: flow 65535: expired"
  kill -USR1 "$client"
  finish "$client"
  expect_equal "$status" 0
  expect_said enc.err "uott-enc: flow 65534: 127.0.0.1:"
  expect_said enc.err "uott-dec: flow 65534: new"
}

@test "datagrams in either direction keep a flow alive" {
  start_peer echo echo
  start_enc enc -i 1000 0 -- "$dec" -v -i 1000 "127.0.0.1:$port"
  for _ in 1 2 3; do expect_equal "$(ask "$port" hello)" hello; done
  expect_not_said enc.err "expired"
}

@test "expired flows give their sockets back" {
  start_peer echo echo
  start_enc enc -i 0.2 0 -- sh -c "echo \$\$ >dec.pid; exec '$dec' -i 0.2 127.0.0.1:$port"
  sockets() { find "/proc/$(cat dec.pid)/fd" -lname 'socket:*' | wc -l; }
  "$peer" clients 300 127.0.0.1 "$port"
  no_sockets() { [ "$(sockets)" -eq 0 ]; }
  wait_until no_sockets
}

@test "under ulimit -n 32 dec evicts the least recently used flow, and everybody is served" {
  start_peer echo echo
  start_enc enc 0 -- bash -c "ulimit -n 32; exec '$dec' -v 127.0.0.1:$port"
  for i in $(seq 100); do expect_equal "$(ask "$port" "$i")" "$i"; done
  expect_said enc.err "uott-dec: flow 65535: evicted"
  expect_not_said enc.err "no socket"
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  expect_said enc.err "drop_no_socket=0"
}

@test "-n N: dec evicts, enc drops and counts the datagrams of one client too many" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" -v -n 2 "127.0.0.1:$port"
  for i in 1 2 3; do expect_equal "$(ask "$port" "$i")" "$i"; done
  expect_said enc.err "uott-dec: flow 65535: evicted"
  stop_all
  : >pids
  start_enc few -n 2 -u 0
  for i in 1 2 3; do printf %s "$i" | "$peer" post 127.0.0.1 "$port"; done
  wait_until said few.err "dropped 1 datagram: as many other clients"
  { frame 0 1 && frame 1 2; } | cmp - few.out
}

@test "an evicted client's next datagram opens a new socket" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" -v -n 1 "127.0.0.1:$port"
  start client "$peer" twice 127.0.0.1 "$port"
  client=$pid
  wait_until said client.out reply
  expect_equal "$(ask "$port" other)" other
  expect_said enc.err "flow 65535: evicted"
  kill -USR1 "$client"
  finish "$client"
  expect_equal "$status" 0
  expect_equal "$(grep -c 'uott-dec: flow 65535: new' enc.err)" 2
}
