#!/usr/bin/env bats
# Goal: several ports share one pipe, and each belongs to its own target, in every kind of stream.
load helpers
bats_require_minimum_version 1.5.0

# start_targets COUNT: each answers with its own port. Sets $targets, the list for dec.
start_targets() {
  targets=
  for i in $(seq "$1"); do
    start_peer "target$i" name
    targets+=${targets:+,}127.0.0.1:$port
  done
}

port_of() { # FILE N: prints the N-th port that enc has said it listens on
  sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$1" | sed -n "$2p"
}

listens() { # FILE COUNT: whether it has said so of that many ports
  [ -n "$(port_of "$1" "$2")" ]
}

ran_twice() {
  [ "$(wc -l <runs)" -ge 2 ]
}

# each_is_answered FILE COUNT: asks each port of enc, the last one first.
each_is_answered() {
  local i
  wait_until listens "$1" "$2"
  for i in $(seq "$2" -1 1); do
    expect_equal "$(ask "$(port_of "$1" "$i")" hello)" "$(cut -d ' ' -f 2 "target$i.out")"
  done
}

@test "the n-th port of enc belongs to the n-th target of dec, and -v names both" {
  start_targets 3
  start_enc enc 0,127.0.0.1:0,*:0 -- "$dec" -v "$targets"
  each_is_answered enc.err 3
  expect_said enc.err "on port $(port_of enc.err 3)"
  expect_said enc.err "uott-dec: flow 65533: new, to 127.0.0.1:$(cut -d ' ' -f 2 target3.out)"
  expect_said enc.err "uott-dec: flow 65535: new, to 127.0.0.1:$(cut -d ' ' -f 2 target1.out)"
}

@test "so it is when dec runs enc, and with two words" {
  start_targets 2
  start dec "$dec" 127.0.0.1 "${targets//127.0.0.1:/}" -- "$enc" -v 127.0.0.1 0,0
  each_is_answered dec.err 2
}

@test "one client may ask several ports from one port of its own" {
  start_targets 2
  start_enc enc 0,0 -- "$dec" "$targets"
  own=$("$peer" free-port)
  for i in 1 2 1; do
    answer=$(echo ask | socat -t2 - "UDP4:127.0.0.1:$(port_of enc.err $i),bind=127.0.0.1:$own" | head -c 99)
    expect_equal "$answer" "$(cut -d ' ' -f 2 "target$i.out")"
  done
  expect_equal "$(grep -c "uott-enc: flow .*127.0.0.1:$own on port" enc.err)" 2
}

@test "a recording of several ports is replayed to several targets" {
  start enc "$enc" -v -u 0,0,0
  wait_until listens enc.err 3
  size=0
  for i in 3 1 2; do
    printf '%s' "$i" | "$peer" post 127.0.0.1 "$(port_of enc.err "$i")"
    size=$((size + 9))
    wait_until has_bytes enc.out "$size"
  done
  targets=
  for i in 1 2 3; do
    start_peer "sink$i" collect 1 "got$i"
    targets+=${targets:+,}127.0.0.1:$port
  done
  "$dec" -u "$targets" <enc.out
  for i in 1 2 3; do
    wait_until [ -s "got$i" ]
    expect_equal "$(cat "got$i")" "$i"
  done
}

@test "after a retry each flow still has its target" {
  start_targets 3
  start_enc enc -t 0.1 -r0.05 0,0,0 -- sh -c 'echo $$ >>runs; exec "$@"' sh "$dec" -v "$targets"
  each_is_answered enc.err 3
  kill -9 "$(head -n 1 runs)"
  wait_until ran_twice
  each_is_answered enc.err 3
}

# differ COMMAND...: two ports and three targets, and a datagram to the last port.
differ() {
  start tunnel "$@"
  wait_until listens tunnel.err 2
  printf one | "$peer" post 127.0.0.1 "$(port_of tunnel.err 2)"
  finish "$pid"
  expect_equal "$status" 1
  expect_said tunnel.err "uott-enc: the far side has 3 targets, this side 2 ports"
  expect_said tunnel.err "uott-dec: the far side has 2 ports, this side 3 targets"
}

@test "both programs end with status 1 if one has more ports than the other has targets" {
  differ "$enc" -v 0,0 -- "$dec" 127.0.0.1:9,127.0.0.1:10,127.0.0.1:11
  differ "$dec" 127.0.0.1:9-11 -- "$enc" -v 0,0
  differ "$enc" -v -r 0,0 -- "$dec" 127.0.0.1:9-11
}

@test "so they do if the far side knows of one target only" {
  start_enc enc 0,0,0 -- "$dec" 127.0.0.1:9
  wait_until listens enc.err 3
  printf one | "$peer" post 127.0.0.1 "$(port_of enc.err 3)"
  finish "$pid"
  expect_equal "$status" 1
  expect_said enc.err "uott-enc: the far side has 1 target, this side 3 ports"
  expect_said enc.err "uott-dec: the far side has 3 ports, this side 1 target"
}

@test "if one port is taken, enc names it, listens on none and runs no COMMAND" {
  start_peer taken echo
  run -1 --separate-stderr "$enc" "0,$port,0" -- touch ran
  [[ $stderr == "uott-enc: cannot listen on 127.0.0.1:$port: Address "*"in use" ]] # musl leaves out "already"
  [ ! -e ran ]
}

@test "-n limits the flows of all ports together" {
  start_targets 2
  start_enc enc -n 1 0,0 -- "$dec" "$targets"
  wait_until listens enc.err 2
  ask "$(port_of enc.err 2)" hello
  printf hello | "$peer" post 127.0.0.1 "$(port_of enc.err 1)"
  dropped_one() {
    kill -USR1 "$pid"
    [ "$(counter enc.err drop_no_tag)" = 1 ]
  }
  wait_until dropped_one
}

# Run with its own network: 1,024 ports, and a datagram to the last one of them.
range_in_own_network() {
  ulimit -Sn 256
  start_enc enc -u 127.0.0.1:20000-21023 -- "$dec" -v -u 127.0.0.1:30000-31023
  expect_said enc.err "listening on 127.0.0.1:20000-21023"
  printf one | "$peer" post 127.0.0.1 21023
  wait_until said enc.err "uott-dec: flow 1023: new, to 127.0.0.1:31023"
}

@test "1,024 ports are two ranges, even with a limit of 256 open files" {
  in_own_network range_in_own_network
}

@test "a name server and an SNMP agent answer through one pipe" {
  dns_port=$("$peer" free-port)
  start_dnsmasq "$dns_port"
  snmp_port=$("$peer" free-port)
  printf 'rocommunity public 127.0.0.1\nsysName agent.lab.test\n' >snmpd.conf
  export SNMP_PERSISTENT_DIR=$PWD
  start snmpd "$(PATH=$PATH:/usr/sbin command -v snmpd)" -f -Lo -C \
    -c snmpd.conf -p snmpd.pid "udp:127.0.0.1:$snmp_port"
  start_enc enc 0,0 -- "$dec" "127.0.0.1:$dns_port,127.0.0.1:$snmp_port"
  wait_until listens enc.err 2
  set -o pipefail
  asks_snmp() { snmpget -v2c -c public -r 0 -t 5 -Ovq "127.0.0.1:$(port_of enc.err 2)" .1.3.6.1.2.1.1.5.0 | tr -d '"' >got; }
  wait_until asks_snmp
  expect_equal "$(cat got)" agent.lab.test
  expect_equal "$(dig @127.0.0.1 -p "$(port_of enc.err 1)" +short +tries=1 name.lab.test)" 127.9.9.9
}

has_media_back() {
  kill -USR1 "$pid"
  [ "$(counter enc.err udp_in)" = "$(counter enc.err udp_out)" ]
}

# Run with its own network, and another one behind it. The media of the call has ports of a range.
call_in_own_network() {
  head -c 4000 /dev/zero | tr '\0' x >voice # half a second, in 25 datagrams
  # shellcheck disable=SC2016 # for the inner shell
  start_enc enc -t 10 127.0.0.1:5060,127.0.0.1:6000-6003 -- unshare --net sh -c '
    ip link set lo up
    sipp -sn uas -i 127.0.0.1 -mi 127.0.0.1 -p 5060 -mp 6000 -rtp_echo -m 1 -nostdin >sipp.out 2>&1 </dev/null &
    echo $! >>pids
    "$@"
    kill $!' sh "$dec" -v 127.0.0.1:5060,127.0.0.1:6000-6003
  sipp -sf "$BATS_TEST_DIRNAME/call.xml" -i 127.0.0.1 -mi 127.0.0.1 -p 5070 -mp 7000 -m 1 -nostdin \
    -timeout 20s 127.0.0.1:5060 >call.out 2>&1
  wait_until has_media_back
  expect_said enc.err "on port 6000"
  [ "$(counter enc.err udp_out)" -ge 28 ]
}

@test "a SIP call with media goes through a range of ports" {
  in_own_network call_in_own_network
}
