#!/usr/bin/env bats
# Goal: datagrams of every size arrive unchanged, both ways, from and to the right addresses.
load helpers
bats_require_minimum_version 1.5.0

# through SIZE HOST: sends a random datagram of SIZE bytes to the echo, and checks that it comes back
# unchanged.
through() {
  head -c "$1" /dev/urandom >sent
  "$peer" send "$2" "$port" <sent >received
  cmp sent received || fail "a datagram of $1 bytes came back different"
}

@test "datagrams of 0 to 65507 bytes come back unchanged over IPv4" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  for size in 0 1 2 7 8 9 1472 8972 65507; do through $size 127.0.0.1; done
}

@test "datagrams of 0 to 65527 bytes come back unchanged over IPv6" {
  start_peer echo echo ::1
  start_enc enc "[::1]:0" -- "$dec" "[::1]:$port"
  for size in 0 1 1452 8952 65507 65527; do through $size ::1; done
}

@test "an IPv6 client reaches an IPv4 target, and datagrams that are too big for it are dropped, counted and reported once" {
  start_peer echo echo
  start_enc enc "[::1]:0" -- "$dec" -v "127.0.0.1:$port"
  through 1000 ::1
  for size in 65508 65527; do head -c $size /dev/zero | "$peer" post ::1 "$port"; done
  through 65507 ::1
  expect_said enc.err "too big"
  expect_equal "$(grep -c "too big" enc.err)" 1
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  expect_said enc.err "drop_too_big=2"
}

@test "the datagrams of a flow arrive in order, and none is missing" {
  start_peer sink collect 2000 got
  sink=$pid
  start_enc enc -u 0 -- "$dec" -u "127.0.0.1:$port"
  "$peer" blast 2000 100 127.0.0.1 "$port"
  finish "$sink"
  expect_equal "$status" 0
  (fold -w 100 got && echo) | sed 's/ x*$//' >numbers
  seq 0 1999 | cmp - numbers
}

@test "consecutive datagrams of different lengths keep their boundaries, their order and their bytes" {
  for size in 3 3 3 2 3 4 4 0 4 0 0 5 5 1 600 600 600 599; do
    frame 7 "$(printf "%${size}s" | tr ' ' "$((size % 10))")"
  done >stream
  start tap "$enc" -v -u 127.0.0.1:0
  wait_until said tap.err "listening on"
  "$dec" -u -v "127.0.0.1:$(listening_port tap.err)" <stream 2>dec.err
  expect_said dec.err " udp_out=18 "
  wait_until has_bytes tap.out "$(wc -c <stream)"
  sed 's/UOTT..../UOTT/g' stream | cmp - <(sed 's/UOTT..../UOTT/g' tap.out)
}

fragments() {
  local sink
  ip link set lo mtu 1500
  start_peer sink collect 40 got
  sink=$pid target=$port
  start_enc enc -u 0
  for size in 3000 1472; do "$peer" blast 20 "$size" 127.0.0.1 "$port"; done
  wait_until has_bytes enc.out $((20 * (3008 + 1480)))
  kill "$pid"
  wait "$pid"
  expect_equal "$(wc -c <enc.out)" $((20 * (3008 + 1480)))
  "$dec" -u -v "127.0.0.1:$target" <enc.out 2>dec.err
  wait "$sink"
}

@test "many datagrams larger than the MTU of the path arrive in fragments, and none is missing" {
  in_own_network fragments
  expect_said dec.err " udp_out=40 "
  expect_equal "$(wc -c <got)" $((20 * (3000 + 1472)))
}

@test "1000 clients at once each get their own replies and no others" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  run -0 "$peer" clients 1000 127.0.0.1 "$port"
  [[ $output == "1000 clients got their own replies" ]]
}

@test "a wildcard enc answers from the address that the client sent to" {
  start_peer echo echo
  start_enc enc 0.0.0.0:0 -- "$dec" "127.0.0.1:$port"
  for host in 127.0.0.1 127.0.0.2 127.1.2.3; do
    expect_equal "$(ask "$port" "via $host" $host)" "via $host"
  done
}

@test "a dual-stack enc serves IPv4 and IPv6, each from the right address" {
  start_peer echo echo
  start_enc enc "*:0" -- "$dec" "127.0.0.1:$port"
  for host in 127.0.0.1 127.0.0.2 ::1; do
    expect_equal "$(ask "$port" "via $host" $host)" "via $host"
  done
}

@test "[::] leaves the IPv4 port to others, and -4 and -6 limit * to one family" {
  start_enc six "[::]:0"
  run -0 "$enc" -h
  start_enc same "0.0.0.0:$port" -u
  stop_all
  : >pids
  start_enc narrow -6 "*:0" -u
  start_enc same "-4" "*:$port" -u
}

@test "one client address that uses two local addresses of enc is two flows" {
  start_peer echo echo
  for address in 0.0.0.0:0 "*:0"; do
    target=$port
    start_enc enc "$address" -- "$dec" "127.0.0.1:$target"
    run -0 "$peer" twins 127.0.0.2 127.0.0.3 "$port"
    [[ $output == "both twins got their own replies" ]]
    expect_equal "$(grep -c 'uott-enc: flow' enc.err)" 2
    port=$target
  done
}

@test "enc without a host listens on loopback only" {
  start_enc enc -u 0
  expect_said enc.err "listening on 127.0.0.1:"
  start_enc enc6 -6 -u 0
  expect_said enc6.err "listening on [::1]:"
}

has_link_local() { # DEVICE
  [ -n "$(ip -6 -o addr show dev "$1" scope link)" ]
}

over_link_local() {
  local own
  ip link add name left type veth peer name right
  for i in left right; do
    sysctl -qw net.ipv6.conf.$i.accept_dad=0
    ip link set "$i" up
  done
  wait_until has_link_local left
  wait_until has_link_local right
  own=$(ip -6 -o addr show dev left scope link | sed 's/.*inet6 \([^/]*\).*/\1/')%left
  start_peer echo echo "$own"
  start_enc enc "[::]:0" -- "$dec" "[$own]:$port"
  ask "$port" "by link" "$own" >reply
  ask "$port" "by loopback" ::1 >>reply
  kill "$pid"
  wait "$pid"
}

@test "link-local addresses with a scope work on both sides" {
  in_own_network over_link_local
  expect_equal "$(cat reply)" "by linkby loopback"
  grep -qE "%(left|[0-9]+)\]:" enc.err # the sandbox leaves the number
}

@test "datagrams that a client sends in one call (UDP_SEGMENT) stay separate datagrams" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  expect_equal "$(printf aaaaabbbbbccccc | "$peer" run 5 127.0.0.1 "$port")" $'aaaaa\nbbbbb\nccccc'
  expect_equal "$(printf aaaaabbbbbcc | "$peer" run 5 127.0.0.1 "$port")" $'aaaaa\nbbbbb\ncc'
  seq -w 64 >numbers
  expect_equal "$(tr -d '\n' <numbers | "$peer" run 2 127.0.0.1 "$port")" "$(cat numbers)"
}

@test "two applications that send many datagrams in one call both get whole datagrams in order" {
  local many=(-g -s 1201 -r 20000 -t 0.2 -d 0.3) side
  start_tool target "$load" source "${many[@]}"
  local target=$pid
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  "$load" send "${many[@]}" 127.0.0.1 "$port" >client.out
  kill "$target"
  finish "$target"
  for side in target client; do
    grep -Eq '^got class=bulk received=[0-9]{3,} .* duplicated=0 reordered=0 ' $side.out || fail "$(cat $side.out)"
    expect_said $side.out "all corrupt=0 misdelivered=0"
  done
}

@test "the programs look up a host name in the requested family" {
  start_peer echo echo
  start_enc enc -4 localhost:0 -- "$dec" -4 "localhost:$port"
  expect_said enc.err "listening on 127.0.0.1:"
  expect_equal "$(ask "$port" hello)" hello
}

@test "-b sets the source address of the datagrams of dec" {
  start_enc tap 127.0.0.1:0
  frame 0 hello | "$dec" -u -b 127.9.8.7 "127.0.0.1:$port"
  wait_until grep -q 'flow .*: 127.9.8.7:' tap.err
  run -1 --separate-stderr "$dec" -b 192.0.2.1 127.0.0.1:53 </dev/null
  [[ $stderr == *"192.0.2.1"* ]]
}

@test "both directions work if dec runs enc as COMMAND" {
  start_peer echo echo
  start_listening dec "$dec" "127.0.0.1:$port" -- "$enc" -v 0
  expect_equal "$(ask "$port" reverse)" reverse
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
}
