#!/usr/bin/env bash
# A run on the nodes of one Slurm job:   sbatch cluster/slurm.sh RECIPE [options of connote run]
# The same line again, or Slurm's own requeueing, goes on where the run stopped.
#SBATCH --job-name=connote
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=80
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=connote-%j.log
set -euo pipefail

if [[ $# -lt 1 || -z ${SLURM_JOB_ID:-} ]]; then
    echo "usage: sbatch cluster/slurm.sh RECIPE [options of connote run]" >&2
    exit 2
fi
recipe=$1
shift
if [[ ! -r $recipe ]]; then
    echo "slurm.sh: $recipe: no such recipe; name it from the directory in which you call sbatch" >&2
    exit 2
fi

# Where Connote is installed, and where weights are kept: both on a disk that all nodes see, so that the
# weights are fetched once.
venv=${CONNOTE_VENV:-$PWD/.venv}
PATH=$venv/bin:$PATH
export PATH HF_HOME=${HF_HOME:-$PWD/models}

# This script runs on the first of the job's nodes, which becomes Ray's head. Where it has several networks,
# CONNOTE_HEAD_IP says which of its addresses the others reach.
head_ip=${CONNOTE_HEAD_IP:-$(hostname -I | awk '{print $1}')}
address=$head_ip:$((20000 + SLURM_JOB_ID % 20000))

# Other users of these nodes may not send code to this Ray: it asks for a token of this job.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
# Imports from a shared disk take their time, with many nodes more of it.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-600}
export RAY_worker_niceness=0 RAY_USAGE_STATS_ENABLED=0
# Ray's files on each node's own disk; /tmp/ray may belong to another user. (With --temp-dir in its place
# symmetric-run would not find the Ray that it has started.)
export RAY_TMPDIR=/tmp/connote-$SLURM_JOB_ID

# On every node: Ray is started, the first node runs the recipe, and all of them leave when that ends. What
# srun returns is the greatest status of its tasks, so the recipe's own is kept in a file.
status=$PWD/.connote-$SLURM_JOB_ID.status
trap 'rm -f "$status"' EXIT
# shellcheck disable=SC2016 # the inner shell replaces what stands in single quotes
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" -- \
    bash -c 'connote run "${@:2}"; echo $? > "$1"' connote "$status" "$recipe" --address "$address" "$@" || true

# 75 (try again later): Ray was lost before the recipe ended.
exit "$(cat "$status" 2> /dev/null || echo 75)"
