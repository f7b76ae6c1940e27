-- Dictionaries: points refer to them by blake2b-128 of a canonical form, so that no ingest worker has to ask another.
create table series (
    series blob not null,
    metric varchar not null,
    kind varchar not null,              -- gauge, sum, histogram, exponential_histogram, summary
    unit varchar not null,
    temporality varchar,                -- delta, cumulative, null
    monotonic boolean,
    scope_name varchar not null,
    scope_version varchar not null,
    attributes varchar not null,        -- canonical JSON: sorted keys, typed values
    bounds double[] not null,           -- explicit histograms; else []
    model varchar not null,             -- edge.model.name or ''
    version varchar not null            -- edge.model.version or ''
);
create table resources (resource blob not null, attributes varchar not null);
create table cohorts (
    cohort blob not null,
    attributes varchar not null,        -- canonical JSON of the operator's dimensions only
    tier varchar not null, region varchar not null, ring varchar not null, firmware varchar not null
);
create table streams (
    stream blob not null,               -- of service.instance.id, else of the whole resource
    device_id varchar not null,
    instance_id varchar not null,
    boot_id varchar not null,
    resource blob not null,
    cohort blob not null,
    first_received_ns bigint not null
);

-- Raw telemetry.
create table points (
    stream blob not null, series blob not null, resource blob not null, cohort blob not null,
    start_ns bigint not null, time_ns bigint not null, received_ns bigint not null,
    no_recorded_value boolean not null,
    value_int bigint, value_double double,
    count bigint, sum double, min double, max double,
    scale smallint, zero_count bigint, zero_threshold double,
    positive_offset integer, positive_counts bigint[] not null,
    negative_offset integer, negative_counts bigint[] not null,
    counts bigint[] not null,           -- explicit histograms
    quantiles double[] not null, quantile_values double[] not null
);
create table windows (                  -- the ledger: one row a (stream, start, time), first arrival
    stream blob not null, start_ns bigint not null, time_ns bigint not null, received_ns bigint not null,
    sequence bigint, window_count bigint, window_points bigint
);
create table logs (
    uid varchar not null, stream blob not null, resource blob not null, cohort blob not null,
    time_ns bigint not null, observed_ns bigint not null, received_ns bigint not null,
    event_name varchar not null, severity_number integer not null, severity_text varchar not null,
    body varchar not null, trace_id varchar not null, span_id varchar not null, attributes varchar not null
);
create table ingest_outcomes (at_ns bigint not null, stream blob not null, reason varchar not null, n bigint not null);

-- Roll-ups: one contribution per (event hour, arrival day, generation); `contributions` says which generation counts.
create table dirty (hour_ns bigint not null, marked_ns bigint not null);
create table contributions (hour_ns bigint not null, arrival_day integer not null, gen bigint not null);
create table distribution_hours (
    hour_ns bigint not null, arrival_day integer not null, gen bigint not null,
    cohort blob not null, series blob not null,
    side smallint not null,             -- -1 negative, 0 zero, 1 positive bucket; 2 explicit bucket
    scale smallint not null, bucket_index integer not null, n bigint not null
);
create table device_hours (
    hour_ns bigint not null, arrival_day integer not null, gen bigint not null,
    device_id varchar not null, cohort blob not null, series blob not null,
    value double not null,              -- sum of number points (counters)
    count bigint not null,              -- observations of histograms
    scale smallint not null,            -- exponential histograms, brought to one scale a row
    zero_count bigint not null,
    positive_offset integer not null, positive_counts bigint[] not null,
    negative_offset integer not null, negative_counts bigint[] not null,
    counts bigint[] not null            -- explicit histograms
);
create table session_hours (
    hour_ns bigint not null, arrival_day integer not null, gen bigint not null,
    device_id varchar not null, cohort blob not null,
    observed_s double not null, starts bigint not null, expected_ends bigint not null, unexpected_ends bigint not null
);
create table sli_minutes (
    hour_ns bigint not null, arrival_day integer not null, gen bigint not null,
    slot_ns bigint not null,            -- end of the 5-minute slot that holds the window's end
    cohort blob not null, slo varchar not null,
    good double not null, total double not null, devices bigint not null
);
create table sli_bad_devices (
    hour_ns bigint not null, arrival_day integer not null, gen bigint not null,
    slot_ns bigint not null, cohort blob not null, slo varchar not null,
    device_id varchar not null, bad double not null
);

-- Judgement: append-only, the newest written row of a key wins.
create table verdicts (
    kind varchar not null,              -- kpi, latency, crash_free, slo, drift, silence
    at_ns bigint not null,              -- the instant judged (event time)
    key varchar not null,               -- canonical JSON of what is judged: name, model, version, cohort
    name varchar not null,              -- the kpi, slo or signal
    model varchar not null, version varchar not null,
    cohort varchar not null,            -- canonical JSON, {} = the whole fleet
    value double, low double, high double,
    n double not null, devices bigint not null, target double,
    verdict varchar not null, reason varchar not null, completeness double,
    window_start_ns bigint not null, window_end_ns bigint not null,
    detail varchar not null,            -- JSON, what this kind needs
    written_ns bigint not null
);
create table baselines (
    baseline_id varchar not null, model varchar not null, version varchar not null,
    source varchar not null,            -- field, golden
    window_start_ns bigint not null, window_end_ns bigint not null,
    detail varchar not null, written_ns bigint not null
);
create table baseline_devices (         -- what each device showed in the reference window, by hour of the day
    baseline_id varchar not null, device_id varchar not null, cohort varchar not null,
    signal varchar not null, hour_of_day smallint not null,
    hours bigint not null, n bigint not null, mean double not null,
    counts bigint[] not null            -- on the pinned bins of `baseline_bins`
);
create table baseline_bins (
    baseline_id varchar not null, signal varchar not null,
    kind varchar not null,              -- numeric, categorical
    edges double[] not null, labels varchar[] not null, counts bigint[] not null,
    center double not null, spread double not null, detail varchar not null
);
create table alert_states (
    alert_id varchar not null, rule varchar not null, severity varchar not null,
    state varchar not null,             -- pending, firing, resolved
    at_ns bigint not null, onset_ns bigint not null, since_ns bigint not null,
    cohort varchar not null, summary varchar not null, devices bigint not null,
    evidence varchar not null, page_url varchar not null, runbook_url varchar not null, written_ns bigint not null
);
create table alert_ledger (             -- what was evaluated, sent, suppressed, acknowledged; never changed
    entry_id varchar not null, alert_id varchar not null, at_ns bigint not null,
    action varchar not null,            -- pending, firing, resolved, notice_sent, notice_failed, notice_skipped
    detail varchar not null, written_ns bigint not null
);
create table job_runs (
    job varchar not null, from_ns bigint not null, until_ns bigint not null,
    started_ns bigint not null, duration_ns bigint not null, rows_written bigint not null,
    outcome varchar not null, detail varchar not null
);

-- The newest frozen arrival day: it and all before it are final and are never rolled up again.
create table arrival_days (arrival_day integer not null, state varchar not null, at_ns bigint not null);
