"""Every judgement that the scheduler runs, in this order; a job's name is the kind of its verdict rows."""

from __future__ import annotations

from typing import Final

from analytics import crash_free_job, drift_job, kpi_job, latency_job, silence_job, slo_job
from analytics.job import Job

JOBS: Final[tuple[Job, ...]] = (
    latency_job.JOB,
    crash_free_job.JOB,
    kpi_job.JOB,
    slo_job.JOB,
    silence_job.JOB,
    drift_job.JOB,
)
