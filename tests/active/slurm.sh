#!/usr/bin/env bash
# Run a command with a SLURM of one node on this machine, for the tests: slurm.sh COMMAND [ARGUMENT...]
#
# Only root can start it; where root may install, what is missing comes from the packages slurm-wlm and munge of Debian.
# It listens on the loopback address, knows no systemd and no cgroups, and keeps all that it writes in a new folder.
# Where none can be started, one line says why, the command does not run, and the exit code is 1.
set -euo pipefail

leave() {
    echo "slurm: not run: $1" >&2
    exit 1
}

launch() {
    "$@" || leave "$1 does not start: $(tail -n 1 "$folder/$1.log" 2>/dev/null)"
}

install() {
    [[ $(uname -s) == Linux ]] || leave "SLURM needs Linux"
    ((EUID == 0)) || leave "only root can start it"
    command -v slurmctld slurmd munged >/dev/null && return
    command -v apt-get >/dev/null || leave "slurmctld, slurmd and munged are not there, nor apt-get to install them"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; } \
        >"$folder/apt.log" 2>&1 || leave "apt-get cannot install slurm-wlm and munge: $(tail -n 1 "$folder/apt.log")"
}

start() {
    mkdir "$folder/state" "$folder/spool"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    cat >"$folder/slurm.conf" <<CONF
ClusterName=ekfcore-test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=2
SlurmdParameters=config_overrides
# Whatever the machine has: what the tests compute is small.
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=short Nodes=ALL Default=YES MaxTime=60 OverTimeLimit=0 State=UP
CONF
    launch munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    export SLURM_CONF=$folder/slurm.conf
    launch slurmctld
    launch slurmd
    for _ in {1..100}; do
        if [[ $(sinfo --noheader --format=%t 2>/dev/null) == idle ]]; then return; fi
        sleep 0.2
    done
    leave "no node is ready: $(tail -n 1 "$folder/slurmctld.log")"
}

stop() {
    # Never without a SLURM of our own: it might be one that others use.
    if [[ -f $folder/slurmctld.pid ]]; then SLURM_CONF=$folder/slurm.conf scancel --user=root 2>/dev/null || true; fi
    for daemon in slurmd slurmctld munge; do
        [[ -f $folder/$daemon.pid ]] || continue
        process=$(<"$folder/$daemon.pid")
        kill "$process" || continue
        for _ in {1..50}; do # it still writes its state; one that nobody waits for stays as a zombie
            [[ $(ps -o stat= -p "$process") == [!Z]* ]] || break
            sleep 0.1
        done
    done
    rm -rf "$folder"
}

folder=$(mktemp -d)
trap stop EXIT
install
start
"$@"
