#!/usr/bin/env bats
# Goal: a reply reaches the client that asked or no client, whatever happens to ports, tags and sockets.
load helpers
bats_require_minimum_version 1.5.0

limit_ports() { # FIRST LAST COMMAND...
  echo "$1 $2" >/proc/sys/net/ipv4/ip_local_port_range
  "${@:3}"
}

# with_ports FIRST LAST COMMAND...: runs it in its own network, which has only these local ports.
with_ports() {
  in_own_network limit_ports "$@"
}

# late_answers IDLE [OPTION OF dec]...: many clients ask a target that answers after 50 ms. Flows of
# enc expire after IDLE seconds.
late_answers() {
  local idle=$1
  shift
  start_peer late late 50
  start_enc enc -i "$idle" 0.0.0.0:0 -- "$dec" -v "$@" "127.0.0.1:$port"
  "$peer" crowd 3000 "$port" >crowd.out
}

@test "with few sockets, a late answer reaches only the client that asked" {
  late_answers 300 -n 20
  expect_equal "$(cat crowd.out)" "20 of 3000 answered"
  expect_said enc.err "no socket could be opened"
}

few_ports() {
  late_answers 0.04
}

@test "with few local ports and CLOSE, a late answer reaches only the client that asked" {
  with_ports 40000 40099 few_ports
  expect_said enc.err "uott-dec: flow 65535: closed"
  expect_equal "$(grep -c 'uott-dec: flow .* new' enc.err)" 50 # dec leaves the host the other half
}

two_runs() {
  start_peer late late 300
  : >stream
  cat >ask.sh <<'END'
run=second
[ -e begun ] || run=first.
: >begun
for i in {0..9}; do printf "UOTT\\x1$i\0\6\0$run"; done
[ $run = first. ] || exec cat >stream
END
  start dec "$dec" -v -r0.1 "127.0.0.1:$port" -- bash ./ask.sh
  wait_until has_bytes stream 140
}

@test "with -r, answers to the questions of one run do not reach the clients of the next run" {
  with_ports 40000 40043 two_runs
  expect_equal "$(grep -ao second stream | wc -l)" 10
  expect_equal "$(grep -ac first stream)" 0
}

one_of_two_ports() {
  for _ in 1 2 3 4 5 6 7 8; do
    printf 'UOTT\1\0\10\0question' | "$dec" -t 0.05 127.0.0.1:40000 >replies
    [ ! -s replies ]
  done
}

@test "dec never uses the port of its target, so no client gets its own question back" {
  with_ports 40000 40001 one_of_two_ports
}

# bats test_tags=preload
@test "dec still sends a reply that waits when its flow expires" {
  start_peer hold hold
  mkfifo in
  exec 9<>in
  start_with_clock dec "$dec" -v -i 10 "127.0.0.1:$port" <in
  frame 1 question >&9
  wait_until said hold.out held
  kill -STOP "$pid"
  printf release | "$peer" post 127.0.0.1 "$port"
  wait_until is_gone "$(tail -n 2 pids | head -n 1)"
  move_clock 11
  kill -CONT "$pid"
  wait_until said dec.err "flow 1: expired"
  wait_until has_bytes dec.out 16
  frame 1 question | cmp - dec.out
}

# bats test_tags=preload
@test "without control frames, the waiting frames of a flow are dropped when it expires" {
  start_with_clock enc "$enc" -v -l 0 -i 10 127.0.0.1:0 -- sleep 1000
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
  for _ in 1 2 3 4 5 6; do head -c 30000 /dev/zero | "$peer" post 127.0.0.1 "$port"; done
  all_came() { kill -USR1 "$pid" && pause && [ "$(counter enc.err udp_in)" = 6 ]; }
  wait_until all_came
  [ "$(counter enc.err queued)" -ge 3 ]
  move_clock 11
  wait_until said enc.err "flow 65535: expired"
  # One frame may stay: a part of it has left.
  dropped() { kill -USR1 "$pid" && pause && [ "$(counter enc.err queued)" -le 1 ]; }
  wait_until dropped
}

# exhausted_ports [OPTION OF dec]...: more clients ask than there are ports.
exhausted_ports() {
  start_peer echo echo
  start_with_clock enc "$enc" -v 0.0.0.0:0 -- "$dec" -v -n 1000 "$@" "127.0.0.1:$port"
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
  "$peer" crowd 100 "$port" >crowd.out
  expect_said enc.err "no socket could be opened"
  move_clock 6
  expect_equal "$(ask "$port" hello)" hello
  expect_said enc.err "uott-dec: flow 65535: evicted"
}

exhausted_ports_of_an_address() {
  exhausted_ports -b 127.0.0.1
}

# bats test_tags=preload
@test "if no local port is left, an idle flow makes room" {
  with_ports 40000 40049 exhausted_ports
  with_ports 40000 40049 exhausted_ports_of_an_address
}
