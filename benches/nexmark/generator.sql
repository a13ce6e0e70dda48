-- The generator alone: every column made, none looked at.
CREATE TABLE sink_generator (event_type INT) WITH ('connector' = 'blackhole');

INSERT INTO sink_generator SELECT event_type FROM datagen;
