-- Remote settings of devices: append-only, the newest written row of a selector wins; an empty document removes it.
create table settings (
    selector varchar not null,          -- canonical JSON of cohort conditions, {} = every device
    document varchar not null,          -- JSON as served, '' = removed
    document_id varchar not null,       -- hash of its bytes
    written_ns bigint not null
);
