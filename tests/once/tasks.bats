#!/usr/bin/env bats
# Goal: the scripts, units and files in examples/ that are about VPNs, sessions, lines and services
# do their task with the real software.
load ../helpers
load examples
bats_require_minimum_version 1.5.0

# The scripts find the programs and a configured ssh in PATH, as they do on a machine of a user.
# NETWORK is a process whose network uott-dec uses on the host.
setup_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  start_sshd "SetEnv PATH=$PWD/far:$BUILD:$PATH HOME=$PWD SHELL=/bin/sh" "AcceptEnv NETWORK"
  # The host, for those in other networks.
  { echo "Host bastion" && echo "  ProxyCommand socat - UNIX-CONNECT:$PWD/sshd.socket" && sed 1d ssh_config; } >bastion
  cat bastion >>ssh_config
  start_relay
  mkdir bin far
  # What mosh-server says has its id.
  printf '%s\n' '#!/bin/sh' 'case $* in *mosh-server*) exec 2>mosh-server.err ;; *) echo $$ >>ssh.pids ;; esac' \
    "exec $(command -v ssh) -F $PWD/ssh_config -o SendEnv=NETWORK \"\$@\"" >bin/ssh
  printf '%s\n' '#!/bin/sh' "exec \${NETWORK:+$(words_inside "\$NETWORK")} $BUILD/uott-dec \"\$@\"" >far/uott-dec
  chmod +x bin/ssh far/uott-dec
}

teardown_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  stop_all
}

with_path() { # COMMAND...
  env "PATH=$BATS_FILE_TMPDIR/bin:$BUILD:$PATH" "$@"
}

answers() { # PORT [TEXT]
  [ "$(timeout 1 "$peer" send 127.0.0.1 "$1" <<<"${2:-hello}")" = "${2:-hello}" ]
}

is_listening() { # FILE
  [ -n "$(listening_port "$1")" ]
}

@test "each script explains itself, and refuses other arguments" {
  for script in wireguard-over-ssh mosh-through-bastion record-replay serial vsock; do
    explains_itself $script
  done
}

# start_wireguard NAME NETWORK ADDRESS PORT MTU, with the key in NAME.key. The other options are
# those of the peer.
start_wireguard() {
  local inside
  read -ra inside < <(words_inside "$2")
  start "$1-go" "${inside[@]}" wireguard-go -f wg0
  wait_until "${inside[@]}" wg show wg0
  "${inside[@]}" wg set wg0 private-key "$1.key" listen-port "$4" peer "${@:6}"
  "${inside[@]}" ip address add "$3/24" dev wg0
  "${inside[@]}" ip link set wg0 up mtu "$5"
}

@test "wireguard-over-ssh: ping with the largest packets, and iperf3, go through the VPN" {
  wg genkey >server.key
  wg genkey >client.key
  chmod 600 ./*.key
  start_network server
  server=$pid
  start_network client
  client=$pid
  read -ra inside < <(words_inside "$client")
  start example "${inside[@]}" env "NETWORK=$server" "PATH=$BATS_FILE_TMPDIR/bin:$BUILD:$PATH" \
    "$examples/wireguard-over-ssh" bastion
  wait_until said example.out Endpoint
  mtu=$(sed -n 's/.*MTU = //p' example.out)
  start_wireguard server "$server" 10.77.0.1 51820 "$mtu" "$(wg pubkey <client.key)" allowed-ips 10.77.0.2/32
  start_wireguard client "$client" 10.77.0.2 0 "$mtu" "$(wg pubkey <server.key)" allowed-ips 10.77.0.1/32 \
    endpoint "$(sed -n 's/.*Endpoint = //p' example.out)"
  wait_until "${inside[@]}" ping -q -c 1 -W 1 10.77.0.1
  "${inside[@]}" ping -q -c 3 -W 5 -M "do" -s $((mtu - 28)) 10.77.0.1
  # shellcheck disable=SC2046 # words
  start iperf3 $(words_inside "$server") iperf3 -s -1 --forceflush
  wait_until said iperf3.out "Server listening"
  "${inside[@]}" iperf3 -c 10.77.0.1 -n 10M --connect-timeout 5000
  finish "$pid"
  expect_equal "$status" 0
  expect_said iperf3.out receiver
}

type_line() { # TEXT
  tmux -S tmux send-keys -l "$1" && tmux -S tmux send-keys Enter
}

mosh_server_runs() {
  sed -n 's/.*detached, pid = \([0-9]*\).*/\1/p' mosh-server.err | grep . >mosh-server.pid
}

@test "mosh-through-bastion: the session outlives the ssh that carries it" {
  start_network client
  read -ra inside < <(words_inside "$pid")
  port=$("$peer" free-port)
  "${inside[@]}" tmux -S tmux -f /dev/null new-session -d -x 80 -y 24 "PATH='$BATS_FILE_TMPDIR/bin:$BUILD:$PATH' \
    LC_ALL=C.UTF-8 '$examples/mosh-through-bastion' bastion host $port 2>example.err"
  tmux -S tmux display-message -p '#{pid}' | tee tmux.pid >>pids
  wait_until mosh_server_runs
  cat mosh-server.pid >>pids
  # mosh-client throws away what somebody types before it starts.
  wait_until shows '[#$]'
  type_line 'echo first $((6 * 7))'
  wait_until shows "first 42"
  kill -9 "$(tail -n 1 ssh.pids)"
  type_line 'echo again $((6 * 7))'
  wait_until shows "again 42"
  expect_equal "$(wc -l <ssh.pids)" 2
  type_line exit
  wait_until is_gone "$(cat mosh-server.pid)"
  wait_until is_gone "$(cat tmux.pid)"
  expect_said example.err "running it again"
}

# unit NAME: copies it, with the programs of this build. systemd-analyze must have nothing to say.
unit() {
  sed "s,/usr/local/bin,$BUILD," "$examples/$1" >"$1"
  run -0 systemd-analyze verify "./$1"
  expect_equal "$output" ""
}

# exec_start UNIT: sets $words to what it runs.
exec_start() {
  read -ra words < <(sed -n ':more /\\$/ { N; b more }; s/\\\n//g; s/^ExecStart=//p' "$1")
}

@test "tcp-service: systemd accepts the units, and the socket serves each TCP client" {
  unit uott-dec@.service
  unit uott-dec.socket
  systemd-analyze security --offline=yes --threshold=15 ./uott-dec@.service
  start_peer echo echo
  exec_start uott-dec@.service
  tcp=$("$peer" free-port)
  start socket systemd-socket-activate --accept --inetd --listen="127.0.0.1:$tcp" "${words[@]/%:53/:$port}"
  wait_until said socket.err "Listening on"
  start_enc near 0 -- socat - "TCP:127.0.0.1:$tcp,nodelay"
  near=$port
  start_enc far 0 -- ssh -F "$BATS_FILE_TMPDIR/ssh_config" -W "127.0.0.1:$tcp" host
  for i in 1 2; do
    expect_equal "$(ask "$near" "near $i")" "near $i"
    expect_equal "$(ask "$port" "far $i")" "far $i"
  done
}

# The line of a comment that begins like this.
line_of() { # FILE BEGINNING
  sed -n "s/^# *\($2.*\)/\1/p" "$examples/$1"
}

@test "tcp-service: so does the line for socat, and that of inetd has the same words" {
  start_peer echo echo
  tcp=$("$peer" free-port)
  line=$(line_of uott-dec.socket socat)
  line=${line/:40000/:$tcp}
  start socat sh -c "PATH=$BUILD:\$PATH; exec ${line/127.0.0.1 53/127.0.0.1 $port}"
  wait_until nc -z 127.0.0.1 "$tcp"
  start_enc enc 0 -- socat - "TCP:127.0.0.1:$tcp,nodelay"
  expect_equal "$(ask "$port" hello)" hello
  read -ra words < <(line_of uott-dec.socket '[^ ]* stream')
  expect_equal "${words[*]:1:4}" "stream tcp nowait nobody"
  expect_equal "${words[*]:6}" "uott-dec 127.0.0.1 53"
}

# give_key NAME [COMMAND]: gives the forced key the line with this name, with another program and port.
give_key() {
  local line
  line=$(grep " $1\$" "$examples/authorized_keys")
  line=${line/ssh-ed25519 AAAA.../$(cut -d ' ' -f 1,2 "$BATS_FILE_TMPDIR/forced_key.pub")}
  { cat "$BATS_FILE_TMPDIR/user_key.pub" && sed "$2" <<<"$line"; } >"$BATS_FILE_TMPDIR/authorized_keys"
}

@test "authorized_keys: that key reaches the service, and no other target, shell, port or file" {
  start_peer echo echo
  give_key dns "s/:53/:$port/"
  forced=(ssh -F "$BATS_FILE_TMPDIR/forced_config")
  start_peer other collect 1 other
  start_enc enc 0 -- "${forced[@]}" -T forced uott-dec "127.0.0.1:$port"
  expect_equal "$(ask "$port" hello)" hello
  [ ! -s other ]
  # dec ends at the end of its input. Its words do not come from us.
  # shellcheck disable=SC2089 # the quotes are for the far shell
  for command in "touch $PWD/owned" "sh -c 'touch $PWD/owned'" "-V; touch $PWD/owned" ""; do
    # shellcheck disable=SC2086,SC2090 # no word for no command
    run -0 --separate-stderr "${forced[@]}" -T forced $command </dev/null
    expect_equal "$output" ""
  done
  run "${forced[@]}" -tt forced </dev/null
  [[ $output == *"PTY allocation request failed"* ]]
  [ ! -e owned ]
  tcp=$("$peer" free-port)
  start server socat "TCP-LISTEN:$tcp,bind=127.0.0.1,fork" OPEN:reached,creat,append
  wait_until nc -z 127.0.0.1 "$tcp"
  run ! "${forced[@]}" -W "127.0.0.1:$tcp" forced </dev/null
  [[ $output == *"stdio forwarding failed"* ]]
  run ! "${forced[@]}" -o ExitOnForwardFailure=yes -R 0:127.0.0.1:9 -N forced
  [[ $output == *"remote port forwarding failed"* ]]
  run ! timeout 10 sftp -F "$BATS_FILE_TMPDIR/forced_config" -b <(echo "put $PWD/pids $PWD/owned") forced
  [ ! -e owned ]
}

@test "authorized_keys: the other way round, the client cannot choose the port" {
  start_peer echo echo
  give_key reverse "s/:5301/:0/; s/uott-enc/& -v/"
  start dec "$dec" "127.0.0.1:$port" -- ssh -F "$BATS_FILE_TMPDIR/forced_config" -T forced uott-enc "*:1"
  wait_until is_listening dec.err
  expect_said dec.err "listening on 127.0.0.1:"
  expect_equal "$(ask "$(listening_port dec.err)" hello)" hello
}

@test "authorized_keys: a client from elsewhere is refused by from=" {
  give_key snmp ""
  run -255 ssh -F "$BATS_FILE_TMPDIR/forced_config" -T forced
  [[ $output == *"Permission denied"* ]]
}

@test "record-replay: a replay sends the same datagrams again, and dump shows them" {
  start_peer live collect 3 live
  live=$pid target=$port
  listen=$("$peer" free-port)
  start_example record-replay record capture "$listen" "127.0.0.1:$target"
  wait_until grep -q ":$(printf %04X "$listen") 00000000:0000 07" /proc/net/udp
  for text in one two three; do printf %s "$text" | "$peer" post 127.0.0.1 "$listen"; done
  finish "$live"
  start_peer again collect 3 again
  "$examples/record-replay" -h >/dev/null
  with_path "$examples/record-replay" replay capture "127.0.0.1:$port"
  finish "$pid"
  cmp live again
  run -0 "$examples/record-replay" dump capture
  expect_equal "$(tr -s ' ' <<<"$output")" " 0 tag 0 3 6f 6e 65 one
 11 tag 1 3 74 77 6f two
 22 tag 2 5 74 68 72 65 65 three"
}

@test "record-replay: dump names the control frames of a tunnel that was recorded both ways" {
  start_peer echo echo
  start_enc enc 0 -- sh -c "tee there | '$dec' 127.0.0.1:$port | tee back"
  expect_equal "$(ask "$port" hello)" hello
  kill "$pid"
  finish "$pid"
  "$examples/record-replay" dump there >there.txt
  "$examples/record-replay" dump back >back.txt
  expect_equal "$(head -n 1 there.txt | tr -s ' ')" " 0 tag 65535 5 68 65 6c 6c 6f hello"
  expect_equal "$(head -n 1 back.txt | tr -s ' ')" " 0 HELLO 2 01 00 .."
  for name in HELLO TIME ACK; do grep -q " $name  " there.txt; done
  for name in TIME ACK "tag 65535"; do grep -q " $name  " back.txt; done
}

@test "record-replay: dump skips noise, and finds empty, unknown, corrupt and cut frames" {
  { printf 'a login\nUO' && frame 1 "" && printf 'UOTC\003\0\002\0\377\377UOTC\011\0\0\0'; } >good
  run -0 "$examples/record-replay" dump good
  expect_equal "$(tr -s ' ' <<<"$output" | sed 's/ $//')" " 10 tag 1 0
 18 CLOSE 2 ff ff ..
 28 type 9 0"
  { cat good && printf x && frame 1 more; } >corrupt
  run -1 "$examples/record-replay" dump corrupt
  expect_equal "${lines[-1]}" "corrupt at byte 36"
  { cat good && frame 1 more | head -c 11; } >cut.frames
  run -1 "$examples/record-replay" dump cut.frames
  expect_equal "${lines[-1]}" "cut at byte 36"
}

@test "serial: a question and its answer go over a line, also after damage and a new start of one side" {
  start_peer echo echo
  listen=$("$peer" free-port)
  start line socat -d -d "PTY,link=$PWD/near,raw,echo=0" "PTY,link=$PWD/far,raw,echo=0"
  wait_until [ -e far ]
  near=(env "PATH=$BUILD:$PATH" "$examples/serial" enc "$PWD/near" "$listen")
  start client "${near[@]}"
  enc_pid=$pid
  start_example serial dec "$PWD/far" "127.0.0.1:$port" 9600
  wait_until answers "$listen" hello
  expect_equal "$(stty speed <near)" 115200
  expect_equal "$(stty speed <far)" 9600
  printf 'damage' >near
  wait_until said example.err "corrupt stream"
  wait_until answers "$listen" again
  kill "$enc_pid"
  finish "$enc_pid"
  start client "${near[@]}"
  wait_until answers "$listen" afresh
}

# This machine may have no vsock between two of its processes. So TCP stands in for it.
@test "vsock: socat knows the addresses, and both sides fit each other (over TCP here)" {
  run -0 socat -h
  [[ $output == *"vsock-connect:<cid>:<port>"* && $output == *"vsock-listen:<port>"* ]]
  mkdir bin
  printf '%s\n' '#!/bin/sh' 'for word; do shift; case $word in' \
    'VSOCK-LISTEN:*) word=TCP-LISTEN:${word#*:},bind=127.0.0.1 ;;' \
    'VSOCK-CONNECT:7:*) word=TCP:127.0.0.1:${word##*:} ;;' \
    "esac; set -- \"\$@\" \"\$word\"; done; exec $(command -v socat) \"\$@\"" >bin/socat
  chmod +x bin/socat
  start_peer echo echo
  vsock=$("$peer" free-port) listen=$("$peer" free-port)
  start dec env "PATH=$PWD/bin:$BUILD:$PATH" "$examples/vsock" dec "$vsock" 127.0.0.1 "$port"
  start enc env "PATH=$PWD/bin:$BUILD:$PATH" "$examples/vsock" enc 7 "$vsock" "$listen"
  wait_until answers "$listen"
}

answers_after() { # OLD-PID: ssh runs again, and the service answers
  [ "$(tail -n 1 ssh.pids)" != "$1" ] && answers "$listen"
}

@test "months: systemd accepts the service, which runs ssh again and counts it" {
  unit uott.service
  systemd-analyze security --offline=yes --threshold=20 ./uott.service
  start_peer echo echo
  listen=$("$peer" free-port)
  exec_start uott.service
  words=("${words[@]/#127.0.0.1:5300/127.0.0.1:$listen}")
  words=("${words[@]/%:53/:$port}")
  words=("${words[@]//\/var\/lib\/uott\/key/$BATS_FILE_TMPDIR/user_key}")
  words=("${words[@]//\/var\/lib\/uott/$PWD}")
  start service env "PATH=$BATS_FILE_TMPDIR/bin:$PATH" "${words[@]/#user@HOST/host}"
  wait_until answers "$listen"
  ssh=$(tail -n 1 ssh.pids)
  kill -9 "$ssh"
  wait_until answers_after "$ssh"
  kill -USR1 "$pid"
  wait_until said service.err "retries=1"
  while read -r key; do
    [ -n "$(counter service.err "$key")" ] || fail "no counter $key"
  done < <(sed -n 's/^#   \([a-z_]*\)  .*/\1/p' "$examples/uott.service" | grep .)
}
