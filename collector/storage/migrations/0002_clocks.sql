-- Clocks of devices: append-only, the newest written row of a boot wins. Raw times are never changed; readers that judge
-- add the offset of a stream's boot to every time of it.
create table clocks (
    device_id varchar not null,
    boot varchar not null,              -- edge.boot.id, else service.instance.id
    offset_ns bigint not null,          -- added to every time of this boot; 0 when it is within the tolerance
    measured_ns bigint not null,        -- what the envelopes say
    quality varchar not null,           -- synced, estimated, bounded
    sent_ns bigint not null,            -- raw time of the envelope it follows from
    received_ns bigint not null,        -- and its arrival
    written_ns bigint not null
);
create view newest_clocks as
select * from clocks qualify row_number() over (partition by device_id, boot order by written_ns desc) = 1;
create view boots as
select stream, device_id, case when boot_id = '' then instance_id else boot_id end as boot from streams;
create view shifted as
select b.stream, c.offset_ns
from (
    select * from clocks where (device_id, boot) in (select (device_id, boot) from clocks where offset_ns <> 0)
    qualify row_number() over (partition by device_id, boot order by written_ns desc) = 1
) c join boots b on b.device_id = c.device_id and b.boot = c.boot
where c.offset_ns <> 0;
create table boot_numbers (device_id varchar not null, boot varchar not null, sequence bigint not null);
