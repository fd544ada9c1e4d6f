PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	execution INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	type VARCHAR NOT NULL, 
	tags JSON NOT NULL, 
	codec VARCHAR NOT NULL, 
	data BLOB, 
	value_digest BLOB, 
	at_us INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE deploy_events (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	git JSON, 
	actor VARCHAR NOT NULL, 
	created BOOLEAN NOT NULL, 
	at_us INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE TABLE executions (
	id INTEGER NOT NULL, 
	exec_id VARCHAR NOT NULL, 
	project VARCHAR NOT NULL, 
	flow VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	version INTEGER, 
	digest VARCHAR, 
	tag VARCHAR, 
	status VARCHAR NOT NULL, 
	inputs JSON NOT NULL, 
	inputs_codec VARCHAR NOT NULL, 
	inputs_data BLOB NOT NULL, 
	idempotency_key VARCHAR, 
	input_digest VARCHAR NOT NULL, 
	actor VARCHAR NOT NULL, 
	created_us INTEGER NOT NULL, 
	started_us INTEGER, 
	ended_us INTEGER, 
	attempt INTEGER NOT NULL, 
	fruitless_attempts INTEGER NOT NULL, 
	attempt_start_seq INTEGER NOT NULL, 
	not_before_us INTEGER NOT NULL, 
	lease_until_us INTEGER, 
	owner VARCHAR, 
	owner_pid INTEGER, 
	owner_host VARCHAR, 
	needs JSON, 
	result_codec VARCHAR, 
	result_data BLOB, 
	result_digest BLOB, 
	error JSON, 
	status_reason VARCHAR, 
	in_flight JSON, 
	cancel_requested_us INTEGER, 
	cancel_actor VARCHAR, 
	source JSON, 
	PRIMARY KEY (id), 
	UNIQUE (exec_id)
);
INSERT INTO "executions" VALUES(1,'01a20a00-0000-7000-8000-000000000001','default','review','deployed',NULL,'sha256:0000000000000000000000000000000000000000000000000000000000000000',NULL,'waiting','{"topic": "agents"}','json',X'7B22746F706963223A226167656E7473227D',NULL,'sha256:0','ada@laptop',1795476465830402,1795476465966728,NULL,1,0,0,0,NULL,'runner:1',1,'here','{"python": "3.11"}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE flows (
	id INTEGER NOT NULL, 
	project VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	origin JSON NOT NULL, 
	last_version INTEGER NOT NULL, 
	created_us INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (project, name)
);
CREATE TABLE journal (
	execution INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	kind VARCHAR(1) NOT NULL, 
	"key" VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	name VARCHAR, 
	tries INTEGER, 
	place INTEGER, 
	type VARCHAR, 
	codec VARCHAR, 
	data BLOB, 
	value_digest BLOB, 
	error VARCHAR, 
	metadata VARCHAR, 
	inputs BLOB, 
	started_us INTEGER, 
	ended_us INTEGER NOT NULL, 
	PRIMARY KEY (execution, seq)
)
 WITHOUT ROWID

;
INSERT INTO "journal" VALUES(1,1,'c','research',1,NULL,NULL,0,NULL,'json',X'7B22666F756E64223A20337D',NULL,NULL,NULL,NULL,1699999999000000,1700000000000000);
CREATE TABLE tag_moves (
	id INTEGER NOT NULL, 
	flow_id INTEGER NOT NULL, 
	tag VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	from_routes JSON, 
	to_routes JSON, 
	frozen BOOLEAN NOT NULL, 
	actor VARCHAR NOT NULL, 
	reason VARCHAR, 
	git_commit VARCHAR, 
	at_us INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(flow_id) REFERENCES flows (id)
);
CREATE TABLE tags (
	flow_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	routes JSON NOT NULL, 
	frozen BOOLEAN NOT NULL, 
	actor VARCHAR NOT NULL, 
	moved_us INTEGER NOT NULL, 
	PRIMARY KEY (flow_id, name), 
	FOREIGN KEY(flow_id) REFERENCES flows (id)
);
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	flow_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR NOT NULL, 
	config JSON NOT NULL, 
	created_us INTEGER NOT NULL, 
	deleted_us INTEGER, 
	PRIMARY KEY (id), 
	UNIQUE (flow_id, number), 
	FOREIGN KEY(flow_id) REFERENCES flows (id)
);
CREATE TABLE waits (
	execution INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	question VARCHAR, 
	schema JSON, 
	metadata JSON, 
	entered_us INTEGER NOT NULL, 
	deadline_us INTEGER, 
	status VARCHAR NOT NULL, 
	answer JSON, 
	answered_us INTEGER, 
	answered_by VARCHAR, 
	door VARCHAR, 
	PRIMARY KEY (execution, "key")
);
INSERT INTO "waits" VALUES(1,'approve','approve','Publish?','{"type": "boolean"}',NULL,1700000000000001,NULL,'pending',NULL,NULL,NULL,NULL);
CREATE UNIQUE INDEX executions_idempotency ON executions (project, flow, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX executions_by_flow ON executions (project, flow, id);
CREATE INDEX executions_by_status ON executions (status, not_before_us);
CREATE INDEX executions_by_project ON executions (project, id);
CREATE INDEX artifacts_of ON artifacts (execution, name);
CREATE UNIQUE INDEX versions_live_digest ON versions (flow_id, digest) WHERE deleted_us IS NULL;
CREATE INDEX tag_moves_of ON tag_moves (flow_id, tag, id);
CREATE INDEX ix_deploy_events_version_id ON deploy_events (version_id);
COMMIT;
