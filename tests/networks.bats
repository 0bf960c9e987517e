#!/usr/bin/env bats
# Goal: losses, narrow and dead links, addresses that go and come, and hosts that sleep change no
# datagram, give no client the answer of another, and end no program that can go on.
load helpers
bats_require_minimum_version 1.5.0

# What socat has started there, nobody else ends, if the link is gone.
teardown() {
  [ ! -e far ] || { signal_far TERM && signal_far CONT; }
  stop_all
}

# Every process of the far network gets it.
signal_far() { # SIGNAL
  pgrep --ns "$far_pid" --nslist net | xargs -r kill "-$1"
}

# network NAME [WORD]...: the script ./NAME runs a command in it. The words run it.
network() {
  start_network "$@"
  printf '#!/bin/sh\nexec %s "$@"\n' "$(words_inside "$pid")" >"$1"
  chmod +x "$1"
}

# join [OPTION OF link]...: the networks near and far, whose devices "wire" are the ends of a link. Sets
# $far_pid and $link_pid.
join() {
  local number=1 side lane=(-r 100000000 -b 1000000 "$@")
  network between
  for side in near far; do
    network $side ./between
    ./between ip link add $side up type veth peer name wire netns "$pid"
    ./$side sysctl -qw net.ipv6.conf.wire.accept_dad=0
    ./$side ip link set wire up gso_max_segs 1
    ./$side ip address add 10.9.0.$number/24 dev wire
    ./$side ip address add fd09::$number/64 dev wire
    number=$((number + 1))
  done
  far_pid=$pid
  start link ./between "$BUILD/tests/link" "${lane[@]}" near "${lane[@]}" far
  link_pid=$pid
  wait_until said link.out ready
}

# start_target NETWORK TOOL MODE [HOST]: sets $target, which is its port.
start_target() {
  start_tool target "./$1" "${@:2}"
  target=$port
}

# start_server [OPTION OF dec]...: in the far network, a dec for each TCP client. Sets $port.
start_server() {
  start_listening server ./far socat -d -d TCP-LISTEN:0,fork,nodelay EXEC:"$dec -v $* 127.0.0.1 $target"
}

# start_dec HOST: in the near network. What goes to descriptor 9 is its input.
start_dec() {
  [ -e in ] || mkfifo in
  exec 9<>in
  start_with_clock dec ./near "$dec" -v -l 0 "$1:$target" <in
}

# stop: ends the program that runs as $pid, with status 0. With -v, it prints its counters.
stop() {
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
}

# ask_from NETWORK TEXT [HOST]: asks $port of the host, and prints the reply.
ask_from() {
  printf '%s' "$2" | "./$1" "$peer" send "${3:-127.0.0.1}" "$port"
}

@test "losses and packets out of order below the pipe change no datagram, and lose none" {
  join -d 1 -l 1 -o 5
  start_target far "$load" echo 127.0.0.1
  start_server -l 0
  start_listening enc ./near "$enc" -v -l 0 0 -- socat - "TCP:10.9.0.2:$port,nodelay"
  for size in 32 1400 9000 60000; do
    ./near "$load" send -f 3 -s $size -k 2 -p 100 -t 0.5 -d 2 127.0.0.1 "$port" >client.out
    expect_equal "$(grep -c ' lost=0 duplicated=0 reordered=0 ' client.out)" 2 # bulk and sparse
    expect_said client.out "all corrupt=0 misdelivered=0"
  done
  pid=$link_pid
  stop
  expect_equal "$(grep -c 'dropped_packets=[1-9]' link.out)" 2
}

@test "a datagram that a router sends back as too large is counted, and the next ones arrive in fragments" {
  join
  ./between ip link add tail up mtu 600 type veth peer name tail netns "$far_pid"
  ./between ip address add 10.9.1.2/24 dev tail
  ./between ip route add default via 10.9.1.1
  ./far ip link set tail up mtu 600
  ./far ip address add 10.9.1.1/24 dev tail
  ./far sysctl -qw net.ipv4.ip_forward=1
  ./near ip route add 10.9.1.0/24 via 10.9.0.2
  start_target between "$peer" echo 10.9.1.2
  start_dec 10.9.1.2
  frame 1 small | tee sent >&9
  wait_until has_bytes dec.out 13
  frame 1 "$(printf %1400s '')" >&9
  wait_until counted refused 1 dec
  expect_said dec.err "refused 1 datagram: "
  for size in 1400 5000 40000; do
    frame 1 "$(printf %${size}s "$size")" | tee -a sent >&9
    wait_until has_bytes dec.out "$(wc -c <sent)"
  done
  cmp sent dec.out
  stop
  expect_equal "$(counter dec.err flows_total)" 1
}

@test "while the link of the target is down, datagrams are counted, and then the same flow works again" {
  join
  start_target far "$peer" echo 10.9.0.2
  start_dec 10.9.0.2
  frame 1 before >&9
  wait_until said dec.out before
  ./near ip link set wire down
  for number in 1 2 3; do
    frame 1 meanwhile >&9
    wait_until counted drop_send_failed $number dec
  done
  expect_said dec.err "dropped 1 datagram: sending failed"
  ./near ip link set wire up
  frame 1 after >&9
  wait_until said dec.out after
  stop
  expect_equal "$(counter dec.err flows_total)" 1
  expect_equal "$(counter dec.err udp_in)" 2
}

# bats test_tags=preload
@test "a flow whose source address goes away gets another one, over IPv4 and IPv6" {
  join
  while read -r network length; do
    start_target far "$peer" echo "${network}2"
    host=${network}2
    [[ $host != *:* ]] || host=[$host]
    start_dec "$host"
    for text in before still; do
      frame 1 $text >&9
      wait_until said dec.out $text
      move_clock 6
    done
    ./near ip address del "${network}1/$length" dev wire
    ./near ip address add "${network}3/$length" dev wire
    frame 1 after >&9
    wait_until said dec.out after
    ./near ip address del "${network}3/$length" dev wire
    move_clock 6
    frame 1 lost >&9
    wait_until counted drop_no_socket 1 dec
    ./near ip address add "${network}1/$length" dev wire
    frame 1 again >&9
    wait_until said dec.out again
    stop
    expect_equal "$(counter dec.err udp_in)" 4
    expect_equal "$(counter dec.err evicted)" 2
  done <<<$'10.9.0. 24\nfd09:: 64'
}

@test "enc goes on when the address that it listens on is gone for a while, and counts what it cannot send" {
  join
  start_target near "$peer" echo
  start_listening enc ./near "$enc" -v 10.9.0.1:0 -- "$dec" -v "127.0.0.1:$target"
  expect_equal "$(ask_from far before 10.9.0.1)" before
  kill -STOP "$(pgrep -P "$pid")"
  printf lost | ./far "$peer" post 10.9.0.1 "$port"
  wait_until counted udp_in 2
  ./near ip address del 10.9.0.1/24 dev wire
  kill -CONT "$(pgrep -P "$pid")"
  wait_until counted drop_send_failed 1
  ./near ip address add 10.9.0.1/24 dev wire
  expect_equal "$(ask_from far after 10.9.0.1)" after
}

@test "where there is no IPv4, loopback is that of IPv6, and a name leads to the target" {
  network only
  printf '127.0.0.1 both\n::1 both\n' >hosts
  ./only mount --bind hosts /etc/hosts
  ./only ip address del 127.0.0.1/8 dev lo
  start_target only "$peer" echo ::1
  for host in "[::1]" both; do
    for where in 0 "[::1]:0" "*:0"; do
      start_listening enc ./only "$enc" -v "$where" -- "$dec" "$host:$target"
      expect_equal "$(ask_from only "by $where to $host" ::1)" "by $where to $host"
    done
  done
}

@test "a wildcard enc answers across a link from the address that the client wrote to" {
  join
  ./near ip address add 10.9.0.11/24 dev wire
  ./near ip address add fd09::11/64 dev wire
  local_address=$(./near ip -6 -o address show dev wire scope link | sed 's/.*inet6 \([^/]*\).*/\1/')
  start_target near "$peer" echo
  start_listening enc ./near "$enc" -v "*:0" -- "$dec" "127.0.0.1:$target"
  for host in 10.9.0.1 10.9.0.11 fd09::1 fd09::11 "$local_address%wire"; do
    expect_equal "$(ask_from far "to $host" "$host")" "to $host"
  done
}

# bats test_tags=preload
@test "after a minute of sleep the far host serves a new run, and the old one does no harm" {
  join
  start_target far "$peer" echo 127.0.0.1
  start_server
  start_with_clock enc ./near "$enc" -v -r 127.0.0.1:0 -- socat - "TCP:10.9.0.2:$port,nodelay"
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
  enc_pid=$pid
  start old ./near "$peer" twice 127.0.0.1 "$port"
  old=$pid pid=$enc_pid
  wait_until said old.out reply
  wait_until stream_is_quiet
  signal_far STOP
  kill -USR1 "$old" # asks once more
  wait_until counted udp_in 2
  move_clock 60
  wait_until said enc.err "running it again"
  start new ./near "$peer" send 127.0.0.1 "$port" < <(printf mine)
  new=$pid pid=$enc_pid
  wait_until counted udp_in 3
  signal_far CONT
  finish "$new"
  expect_equal "$(cat new.out)" mine
  wait_until said server.err "udp_out=2 " # the old dec has ended
  wait_until stream_is_quiet
  stop
  expect_equal "$(counter enc.err udp_out)" 2 # one to each client
  expect_equal "$(counter enc.err drop_no_flow)" 0
}

@test "while the link of the pipe is down, nothing is lost without a counter, and nobody ends" {
  join
  start_target far "$peer" echo 127.0.0.1
  start_server
  start_listening enc ./near "$enc" -v 0 -- socat - "TCP:10.9.0.2:$port,nodelay"
  expect_equal "$(ask_from near before)" before
  ./near ip link set wire down
  ./near "$peer" blast 100 1000 127.0.0.1 "$port"
  has_tried() { ./near ss -Htio dst 10.9.0.2 | grep -q backoff:3; }
  wait_until has_tried
  ./near ip link set wire up
  wait_until counted in_flight 0
  expect_equal "$(ask_from near after)" after
  stop
  wait_until said server.err udp_in
  frames=$(counter enc.err frames_out)
  drops=$(grep udp_in enc.err | tail -n 1 | grep -o 'drop_[a-z_]*=[0-9]*' | cut -d = -f 2 | paste -s -d +)
  expect_equal "$(counter enc.err udp_in)" $((frames + drops))
  expect_equal "$(counter server.err frames_in)" "$frames"
  expect_equal "$(counter server.err udp_out)" "$frames"
}
