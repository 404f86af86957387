import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, postgres, Stack } from '../harness/stack.ts';
import { checkOutput } from '../json/documents.ts';

/**
 * Each command prints the document that docs/json describes: the harness compares all output with the schemas. What
 * needs a bucket, a window or damage is in the tests of these, which the harness watches too.
 */
describe('--json', () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'shop' } }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
      },
      volumes: { media: {} },
      agent: { volumes: ['./restored:/restored', './compose.yaml:/config/compose.yaml:ro', './copy:/copy'] },
      env: { LIFEBOAT_COPY: '/copy' },
    });
    await mkdir(path.join(stack.directory, 'restored'), { recursive: true });
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 9) AS i', { database: 'shop' });
    await stack.exec('web', ['sh', '-c', 'echo photo >/media/p']);
  });
  afterAll(() => stack.destroy());

  it('is as the schemas say', async () => {
    const lines = [
      'plan',
      'plan --from-labels offen',
      'backup',
      'status',
      'snapshots',
      'show latest',
      'show latest db.postgres',
      'show latest web.media',
      'windows',
      'check --read-data',
      'restore latest db.postgres --dry-run',
      'restore latest --all --yes',
      'status',
      'rollback --dry-run',
      'rollback --yes',
      'rollback --forget --dry-run',
      'rollback --forget --yes',
      'export latest web.media --to /restored/media.zip',
      'import /restored/media.zip web.media',
      'snapshots',
      'drill web.media',
      'drills',
      'pin latest --reason why',
      'unpin latest',
      'copy',
      'prune --dry-run',
      'prune',
      'accept destination',
      'init --directory /config',
      'completion bash',
      'notify test',
    ];
    const wrong: string[] = [];
    for (const line of lines) {
      const { code, stdout } = await stack.lifeboatInTurn(...line.split(' '), '--json');
      checkOutput([...line.split(' '), '--json'], stdout, { strict: true });
      const document = JSON.parse(stdout) as object;
      const isResult = [0, 3, 4].includes(code) && !Object.keys(document).every((key) => /^(format|error)$/.test(key));
      if (!isResult) wrong.push(`${line} → ${code} ${stdout}`);
    }
    expect(wrong).toEqual([]);
  });
});
