import { expect, test } from 'vitest';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { unlabelledServers } from '../../src/setup/servers.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { withFiles } from './files.ts';

const CLUSTER = '["pg:/var/lib/postgresql/data"]';
const WEB = 'web: { image: x, volumes: ["media:/m"], labels: { lifeboat.volumes: "true" } }';

test.each<[string, string[], string[]]>([
  ['next to a labelled service', [WEB, `db: { image: "postgres:17", volumes: ${CLUSTER} }`], ['db']],
  ['without any labelled service', [`db: { image: "postgres:17", volumes: ${CLUSTER} }`], []],
  ['with a label', [WEB, `db: { image: x, volumes: ${CLUSTER}, labels: { lifeboat.postgres: "true" } }`], []],
  ['that is refused', [WEB, `db: { image: x, volumes: ${CLUSTER}, labels: { lifeboat.postgres: "false" } }`], []],
  ['whose volume is only read', [WEB, 'tool: { image: x, volumes: ["pg:/var/lib/postgresql/data:ro"] }'], []],
  [
    'whose volume a labelled service has',
    [
      `db: { image: x, volumes: ${CLUSTER}, labels: { lifeboat.postgres: "true" } }`,
      `tool: { image: x, volumes: ${CLUSTER} }`,
    ],
    [],
  ],
])('a Postgres server %s', async (_, services, expected) => {
  const directory = await withFiles({ 'compose.yml': `services:\n${services.map((one) => `  ${one}\n`).join('')}` });
  const containers = servicesOf(await readComposeProject(directory, [], {}), () => undefined).map(
    ({ container }) => container,
  );
  const notes = unlabelledServers(containers, containers[0]?.project ?? '');
  expect(notes.map(({ subject }) => subject)).toEqual(expected);
  for (const { message } of notes) expect(message).toContain('has no label, so it is not backed up');
  expect(unlabelledServers(containers, 'another')).toEqual([]);
});
