#!/usr/bin/env bats
# Goal: the one-liners of the README work with the real programs that they name.
load ../helpers
bats_require_minimum_version 1.5.0

setup_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  start_sshd
  "$peer" free-port >dns_port
  start_dnsmasq "$(cat dns_port)" --log-queries \
    --txt-record="big.lab.test,$(printf 'x%.0s' {1..200}),$(printf 'y%.0s' {1..200}),$(printf 'z%.0s' {1..200})"
}

teardown_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  stop_all
}

dns() {
  echo "127.0.0.1:$(cat "$BATS_FILE_TMPDIR/dns_port")"
}

resolves() { # PORT NAME
  [ "$(dig @127.0.0.1 -p "$1" +short +tries=1 +time="${3:-5}" "$2")" = 127.9.9.9 ]
}

@test "uott-enc PORT -- ssh host uott-dec TARGET: a DNS server behind ssh answers dig" {
  # shellcheck disable=SC2046 # words
  start_enc enc 0 -- $(ssh_to host) "$dec" "$(dns)"
  resolves "$port" name.lab.test
  dig @127.0.0.1 -p "$port" +short +bufsize=4096 +tries=1 big.lab.test TXT | tr -d '" \n' >got
  printf 'x%.0s' {1..200} >wanted
  printf 'y%.0s' {1..200} >>wanted
  printf 'z%.0s' {1..200} >>wanted
  cmp got wanted
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
}

@test "200 queries from 200 ports all get answers through ssh" {
  # shellcheck disable=SC2046 # words
  start_enc enc 0 -- $(ssh_to host) "$dec" "$(dns)"
  for i in $(seq 200); do echo "name$i.lab.test"; done >names
  dig @127.0.0.1 -p "$port" +short +tries=1 +time=5 -f names >answers
  expect_equal "$(grep -cx 127.9.9.9 answers)" 200
  [ "$(grep -c 'uott-enc: flow' enc.err)" -ge 190 ] || fail "dig used few ports"
}

@test "uott-dec TARGET -- ssh host uott-enc PORT: the other way round" {
  # shellcheck disable=SC2046 # words
  start dec "$dec" "$(dns)" -- $(ssh_to host) "$enc" -v 0
  wait_until said dec.err "listening on"
  resolves "$(listening_port dec.err)" name.lab.test
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
}

@test "command= in authorized_keys: the far side alone decides the target" {
  cd "$BATS_FILE_TMPDIR"
  echo "command=\"$dec $(dns)\",restrict $(cat forced_key.pub)" >>authorized_keys
  cd "$BATS_TEST_TMPDIR"
  start_enc enc 0 -- ssh -T -F "$BATS_FILE_TMPDIR/forced_config" forced "$dec" 127.0.0.1:9
  resolves "$port" name.lab.test
}

# Runs enc as the left end of a pipeline. stop_all can end it.
one_way_enc() {
  "$enc" -v -u 127.0.0.1:0 2>enc.err 3>&- &
  echo $! >>pids
  wait
}

@test "one way through a plain pipeline over ssh" {
  start_peer sink collect 3 got
  sink=$pid target=$port
  # shellcheck disable=SC2046 # words
  one_way_enc | $(ssh_to host) "$dec" -u "127.0.0.1:$target" 3>&- &
  wait_until said enc.err "listening on"
  port=$(listening_port enc.err)
  for text in one two three; do printf %s "$text" | "$peer" post 127.0.0.1 "$port"; done
  finish "$sink"
  expect_equal "$status" 0
  expect_equal "$(cat got)" onetwothree
}

@test "if ssh cannot log in, enc ends with the status of ssh" {
  run -255 "$enc" 127.0.0.1:0 -- ssh -T -F "$BATS_FILE_TMPDIR/ssh_config" -l no-such-user host true
}

@test "if the far side does not have the command, enc ends with status 127 of ssh" {
  # shellcheck disable=SC2046 # words
  run -127 "$enc" 127.0.0.1:0 -- $(ssh_to host) no-such-dec
  [[ $output == *"no-such-dec"* ]]
}

@test "enc skips the noise of a login and reports it" {
  # shellcheck disable=SC2046 # words
  start_enc enc 0 -- $(ssh_to host) "echo 'Welcome to host'; exec $dec $(dns)"
  resolves "$port" name.lab.test
  expect_said enc.err 'skipped 16 bytes that are no frame: "Welcome to host\n"'
}

@test "with ssh -tt, dec reports the terminal in the way" {
  run -2 "$enc" 127.0.0.1:0 -- ssh -tt -F "$BATS_FILE_TMPDIR/ssh_config" host "$dec" "$(dns)"
  [[ $output == *"is a terminal"*"ssh -T"* ]]
}

@test "enc reports a terminal in the way that turns LF into CR LF" {
  start_peer echo echo
  start_enc enc 0 -- ssh -tt -F "$BATS_FILE_TMPDIR/ssh_config" host \
    "stty raw -echo; stty opost onlcr; echo >$PWD/ready; cat | '$dec' 127.0.0.1:$port | cat"
  wait_until [ -s ready ]
  printf 'one\ntwo\n' | "$peer" post 127.0.0.1 "$port"
  finish "$pid"
  expect_equal "$status" 1
  expect_said enc.err "a terminal in the way turns LF into CR LF: use ssh -T"
}

@test "socat joins enc and dec with EXEC on both sides" {
  start_peer echo echo
  start socat socat "EXEC:'$enc -v 0'" "EXEC:'$dec 127.0.0.1 $port'"
  wait_until said socat.err "listening on"
  expect_equal "$(ask "$(listening_port socat.err)" "through socat")" "through socat"
}

@test "socat TCP-LISTEN,fork serves two clients that come through nc, each with its own dec" {
  start_peer echo echo
  target=$port
  tcp=$("$peer" free-port)
  start server socat "TCP-LISTEN:$tcp,bind=127.0.0.1,reuseaddr,fork" "EXEC:'$dec 127.0.0.1 $target'"
  wait_until nc -z 127.0.0.1 "$tcp"
  start_enc one 0 -- nc 127.0.0.1 "$tcp"
  first=$port
  start_enc two 0 -- nc 127.0.0.1 "$tcp"
  for i in 1 2 3; do
    expect_equal "$(ask "$first" "one $i")" "one $i"
    expect_equal "$(ask "$port" "two $i")" "two $i"
  done
}

@test "a TCP client that sends a frame and closes at once loses nothing" {
  start_peer sink collect 1 got
  target=$port
  tcp=$("$peer" free-port)
  start server socat "TCP-LISTEN:$tcp,bind=127.0.0.1,reuseaddr,fork" "EXEC:'$dec 127.0.0.1 $target'"
  wait_until nc -z 127.0.0.1 "$tcp"
  frame 0 last | nc -N 127.0.0.1 "$tcp"
  wait_until has_bytes got 4
  expect_equal "$(cat got)" last
}

@test "dec answers a stream that counts its tags from 0, as the client of the original does" {
  start_peer echo echo
  mkfifo in
  exec 9<>in
  start dec "$dec" "127.0.0.1:$port" <in
  { frame 0 first && frame 1 second; } >&9
  wait_until has_bytes dec.out 27
  { frame 0 first && frame 1 second; } >wanted
  { frame 1 second && frame 0 first; } >other_order
  cmp wanted dec.out || cmp other_order dec.out
}

@test "a replay of a recording by tee sends the same datagrams again" {
  start_peer live collect 50 live
  live=$pid target=$port
  one_way_enc | tee capture 3>&- | "$dec" -u "127.0.0.1:$target" 3>&- &
  wait_until said enc.err "listening on"
  "$peer" blast 50 700 127.0.0.1 "$(listening_port enc.err)"
  finish "$live"
  start_peer again collect 50 replayed
  "$dec" -u "127.0.0.1:$port" <capture
  finish "$pid"
  cmp live replayed
}

@test "pv and gzip in the pipeline change nothing" {
  start_peer sink collect 50 got
  sink=$pid target=$port
  start_enc enc -u 0
  "$peer" blast 50 1200 127.0.0.1 "$port"
  wait_until has_bytes enc.out $((50 * 1208))
  pv -q enc.out | gzip -c | gzip -dc | "$dec" -u "127.0.0.1:$target"
  finish "$sink"
  tr -d x <got | tr ' ' '\n' >numbers
  seq 0 49 | cmp - numbers
}

@test "the programs of make static work, are smaller than 150 KB and need no shared libraries" {
  make -s -C "$BATS_TEST_DIRNAME/../.." static BUILD="$PWD" SAN= PORTABLE= STATIC=
  for program in static/uott-enc static/uott-dec; do
    [ "$(wc -c <$program)" -lt 150000 ]
    run ! ldd $program
  done
  start_peer echo echo
  enc=$PWD/static/uott-enc
  start_enc enc 0 -- static/uott-dec "127.0.0.1:$port"
  expect_equal "$(ask "$port" static)" static
}

@test "make install-static uses DESTDIR and PREFIX, and make uninstall removes all of it" {
  at() { make -s -C "$BATS_TEST_DIRNAME/../.." "$1" DESTDIR="$PWD/root" PREFIX=/usr SAN= PORTABLE= STATIC= BUILD=build; }
  at install-static
  for file in bin/uott-{enc,dec,carry} share/man/man1/uott-{enc,dec,carry}.1 share/man/man5/uott.5 \
    "lib/uott/$(uname -m)"/uott-{enc,dec}; do
    [ -s "root/usr/$file" ] || fail "no $file"
  done
  root/usr/bin/uott-enc --version
  grep -q '/usr/lib/uott}' root/usr/bin/uott-carry
  at uninstall
  expect_equal "$(find root -type f)" ""
}

@test "with -r, the DNS server answers again after ssh, the child of sshd and dec were killed" {
  # shellcheck disable=SC2046 # words
  start_enc enc -r0.5 0 -- $(ssh_to host) "echo \$\$ >>'$PWD/runs'; exec '$dec' $(dns)"
  enc_pid=$pid
  resolves "$port" name0.lab.test
  pkill -9 -P "$enc_pid" ssh
  wait_until resolves "$port" name1.lab.test 1
  pkill -9 -P "$(head -n 1 "$BATS_FILE_TMPDIR/pids")"
  wait_until resolves "$port" name2.lab.test 1
  kill -9 "$(tail -n 1 runs)"
  wait_until resolves "$port" name3.lab.test 1
  expect_equal "$(wc -l <runs)" 4
  kill "$enc_pid"
  finish "$enc_pid"
  expect_equal "$status" 0
}
