#!/bin/sh
# PID 1 of the lab kernel, first half: give it a root of its own.
#
# The root file system is the host's (hostfs). An overlay with a tmpfs on top takes every
# write, so nothing on the host changes, except in the folders listed in $qsgw_job/writable,
# which are mounted from the host a second time. The kernel hands us qsgw_job, the job's
# folder, from its command line. Output of this script is the kernel's console.
set -eu
job=$qsgw_job
. "$job/environment"

mount -t tmpfs -o size=75% tmpfs /run
mkdir /run/upper /run/work /run/root
modprobe -d "$job/modules" overlay
mount -t overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work overlay /run/root

cd /run/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
mount -t devpts -o ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mkdir -p run/qsgw-job run/netns run/old-root run/lock
mount -t hostfs -o "$job" none run/qsgw-job
while read -r folder; do
    mkdir -p ".$folder"
    mount -t hostfs -o "$folder" none ".$folder"
done < "$job/writable"

pivot_root . run/old-root
exec chroot . /bin/sh /run/qsgw-job/main.sh </dev/console >/dev/console 2>&1
