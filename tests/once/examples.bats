#!/usr/bin/env bats
# Goal: each script in examples/ does its task with the real software, through a real sshd.
load ../helpers
load examples
bats_require_minimum_version 1.5.0

# The scripts find the programs and a configured ssh in PATH, as they do on a machine of a user.
setup_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  start_sshd "SetEnv PATH=$BUILD:$PATH"
  mkdir bin
  printf '%s\n' '#!/bin/sh' 'echo $$ >>ssh.pids' '[ ! -e down ] || exit 255' \
    '[ ! -S sshd.socket ] || set -- -o "ProxyCommand socat - UNIX-CONNECT:sshd.socket" "$@"' \
    "exec $(command -v ssh) -F $PWD/ssh_config \"\$@\"" >bin/ssh
  # A test that kills it gets what else happens after a minute.
  printf '#!/bin/sh\necho $$ >timeout.pid\nexec %s "$@"\n' "$(command -v timeout)" >bin/timeout
  chmod +x bin/*
}

teardown_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  stop_all
}

# The command that the script names, with our name.
resolves() { # [ARG]...
  local ask
  ask=$(sed -n 's/.*ry: \(dig .*\) example.org$/\1/p' example.out)
  [ "$($ask +short +tries=1 +time=1 "$@" name.lab.test)" = 127.9.9.9 ]
}

@test "each script explains itself, and refuses other arguments" {
  for script in dns-over-ssh snmp-over-ssh ntp syslog-one-way sip-call game-server; do
    explains_itself $script HOST
  done
}

@test "dns-over-ssh: dig gets its answers over UDP and TCP" {
  port=$("$peer" free-port)
  start_dnsmasq "$port"
  start_example dns-over-ssh host "127.0.0.1:$port" "$("$peer" free-port)"
  wait_until resolves +notcp
  wait_until resolves +tcp
}

@test "dns-over-ssh -R: the host asks a server that this machine reaches, over UDP and TCP" {
  port=$("$peer" free-port)
  start_dnsmasq "$port"
  start_example dns-over-ssh -R host "127.0.0.1:$port" "127.0.0.1:$("$peer" free-port)"
  wait_until resolves +notcp
  wait_until resolves +tcp
  expect_said example.out "On host, try: dig"
}

start_snmpd() { # NAME: sets $port
  port=$("$peer" free-port)
  printf 'rocommunity public 127.0.0.1\nsysName %s\n' "$1" >"$1.conf"
  SNMP_PERSISTENT_DIR=$PWD/$1 start "$1" "$(PATH=$PATH:/usr/sbin command -v snmpd)" -f -Lo -C \
    -c "$1.conf" -p "$1.pid" "udp:127.0.0.1:$port"
}

# Runs COMMAND with the words of the n-th command that the script names, or with another OID.
poll() { # N COMMAND [OID]
  local words
  read -ra words < <(sed -n 's/ *(.*//; s/^Try: snmpget //p' example.out | sed -n "$1p")
  SNMP_PERSISTENT_DIR=$PWD "$2" -r 0 -t 1 -Ovq "${words[@]:0:4}" "${3:-${words[4]}}" | tr -d '"'
}

is_named() { # N NAME
  [ "$(poll "$1" snmpget)" = "$2" ]
}

@test "snmp-over-ssh: each agent has its own port" {
  start_snmpd first
  first=$port
  start_snmpd second
  start_example snmp-over-ssh host "$("$peer" free-port)=127.0.0.1:$first" "$("$peer" free-port)=127.0.0.1:$port"
  wait_until is_named 1 first
  wait_until is_named 2 second
  poll 2 snmpbulkwalk .1.3.6.1.2.1.1 >walked
  expect_said walked second
}

@test "ntp: chrony gets the time" {
  port=$("$peer" free-port)
  export PATH=$PATH:/usr/sbin
  printf '%s\n' "local stratum 3" "port $port" "allow 127.0.0.1" "bindaddress 127.0.0.1" "cmdport 0" \
    "bindcmdaddress /" "pidfile $PWD/server.pid" >server.conf
  start server chronyd -x -U -d -u "$(id -un)" -f server.conf
  start_example ntp host "127.0.0.1:$port" "$("$peer" free-port)"
  wait_until said example.out "chrony.conf"
  line=$(sed -n 's/^For chrony.conf: //p' example.out)
  gets_time() {
    chronyd -Q -U -u "$(id -un)" -t 5 "$line iburst" "cmdport 0" "bindcmdaddress /" \
      "pidfile $PWD/client.pid" >client.out 2>&1
  }
  wait_until gets_time
  expect_said client.out "System clock wrong by"
}

log_line() { # TEXT: sends it once, as syslog does
  logger --udp --server 127.0.0.1 --port "$listen" --tag test "$1"
}

arrives() { # TEXT: sends it until it has arrived
  log_line "$1"
  said received "$1"
}

# Only the last run is still there.
kill_last() { # FILE
  kill "$(tail -n 1 "$1")"
}

@test "syslog-one-way: messages reach rsyslog, and those of an outage come later" {
  port=$("$peer" free-port) listen=$("$peer" free-port)
  printf '%s\n' 'module(load="imudp")' "input(type=\"imudp\" address=\"127.0.0.1\" port=\"$port\")" \
    "action(type=\"omfile\" file=\"$PWD/received\")" >rsyslog.conf
  start rsyslogd "$(PATH=$PATH:/usr/sbin command -v rsyslogd)" -n -f "$PWD/rsyslog.conf" -i "$PWD/rsyslogd.pid"
  start_example syslog-one-way host spool "127.0.0.1:$port" "$listen"
  wait_until arrives "before the outage"
  touch down
  kill_last ssh.pids
  wait_until [ -s timeout.pid ]
  log_line "in the outage"
  wait_until grep -qs "in the outage" spool/*
  rm down
  kill_last timeout.pid
  wait_until said received "in the outage"
  wait_until arrives "after the outage"
  expect_equal "$(ls spool)" ""
}

listens() { # PORT
  grep -q ":$(printf %04X "$1") 00000000:0000 07" /proc/net/udp
}

# 25 datagrams of the voice, and the answers to INVITE and BYE.
has_media_back() { # SINCE
  kill -USR1 "$pid"
  [ "$(counter example.err udp_out)" -ge $(($1 + 28)) ]
}

media_answers() { # PBX
  [ "$(timeout 1 "$peer" send "$1" 6000 <<<hello)" = hello ]
}

# Run with its own network, on which this machine has the address of the PBX too.
call_in_own_network() { # PBX
  head -c 4000 /dev/zero | tr '\0' x >voice # half a second, in 25 datagrams
  start_example sip-call host "$1" 5060 6000-6003
  wait_until listens 6003
  wait_until media_answers "$1" # or the caller would ask again while ssh still starts
  kill -USR1 "$pid"
  wait_until said example.err udp_out
  since=$(counter example.err udp_out)
  sipp -sf "$BATS_TEST_DIRNAME/../call.xml" -i 127.0.0.1 -mi 127.0.0.1 -p 5070 -mp 7000 -m 1 -nostdin \
    -timeout 20s "$1:5060" >call.out 2>&1
  wait_until has_media_back "$since"
}

# An address of its own for the PBX makes its ports free. The network of the caller has no way to
# sshd, but a socket in a file.
@test "sip-call: a call and its media go through" {
  pbx=127.$((RANDOM % 254 + 1)).$((RANDOM % 256)).$((RANDOM % 254 + 1))
  start pbx sipp -sn uas -i "$pbx" -mi "$pbx" -p 5060 -mp 6000 -rtp_echo -m 1 -nostdin
  start_relay
  export examples BATS_FILE_TMPDIR
  in_own_network call_in_own_network "$pbx"
}

start_game() { # MODE: three servers of this kind. Sets $public, their three ports on the host.
  local targets i
  for i in 1 2 3; do
    start_peer "game$i" "$1"
    targets+=${targets:+,}$port
  done
  for i in 1 2 3; do public[i]=$("$peer" free-port); done # when no server can take them any more
  start_example game-server host "$targets" 127.0.0.1 "${public[1]},${public[2]},${public[3]}"
  wait_until is_open "${public[3]}"
}

is_open() { # PORT
  [ -n "$(timeout 1 "$peer" send 127.0.0.1 "$1" <<<hello 2>/dev/null)" ]
}

@test "game-server: each port of the host belongs to its port of the game" {
  start_game name
  for i in 3 1 2; do
    expect_equal "$(ask "${public[i]}" hello)" "$(cut -d ' ' -f 2 "game$i.out")"
  done
}

@test "game-server: 600 players on three ports each get their own answers" {
  start_game echo
  players=()
  for i in 1 2 3; do
    start "players$i" "$peer" clients 200 127.0.0.1 "${public[i]}"
    players+=("$pid")
  done
  for id in "${players[@]}"; do
    finish "$id"
    expect_equal "$status" 0
  done
}
