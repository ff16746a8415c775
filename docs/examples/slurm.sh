#!/bin/bash
# Trains on several nodes, with one task per GPU. When its time limit is reached, the job queues itself
# again and resumes.
#   sbatch docs/examples/slurm.sh configs/tofu.yaml runs/tofu
# Three minutes before the limit, Slurm sends SIGTERM to every task. The current step is finished, a
# checkpoint is written, and the tasks end with status 143. Then the job is queued again.
#SBATCH --job-name=lit-unlearn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
config=$1
run=$2

export OMP_NUM_THREADS=1

srun lit-unlearn fit --config "$config" \
  --trainer.default_root_dir "$run" \
  --trainer.num_nodes "$SLURM_JOB_NUM_NODES" \
  --trainer.devices "$SLURM_NTASKS_PER_NODE" \
  --trainer.strategy fsdp2
status=$?

if [ "$status" -eq 143 ]; then
  echo "stopped after a checkpoint; queued again"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
