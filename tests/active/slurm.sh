#!/usr/bin/env bash
# A SLURM of one node on this machine, for the tests: slurm.sh start FOLDER | stop FOLDER. Root must run it.
#
# It listens on the loopback address, knows no systemd and no cgroups, and keeps all that it writes in FOLDER. What
# speaks to it needs SLURM_CONF=FOLDER/slurm.conf in its environment.
set -euo pipefail
action=$1 folder=$(realpath -m "$2")

start() {
    mkdir -p "$folder/state" "$folder/spool"
    chmod 755 "$folder"
    dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
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
# Twice as many as the tests use at a time, whatever the machine has: what they compute is small.
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=short Nodes=ALL Default=YES MaxTime=60 OverTimeLimit=0 State=UP
CONF
    chmod 400 "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge.pid" \
        --log-file="$folder/munge.log" --seed-file="$folder/munge.seed"
    export SLURM_CONF=$folder/slurm.conf
    slurmctld
    slurmd
    for _ in {1..100}; do
        if [[ $(sinfo --noheader --format=%t 2>/dev/null) == idle ]]; then return; fi
        sleep 0.2
    done
    echo "SLURM does not start: $(tail -n 1 "$folder/slurmctld.log")" >&2
    exit 1
}

stop() {
    for daemon in slurmd slurmctld munge; do
        if [[ -f $folder/$daemon.pid ]]; then kill "$(<"$folder/$daemon.pid")" || true; fi
    done
}

"$action"
