import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SecondEngine, startSecondEngine } from '../harness/second-engine.ts';
import { holder, postgres, Stack } from '../harness/stack.ts';
import { checkOutput } from '../json/documents.ts';

const IMAGE = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test';

describe('another host', () => {
  let lost: Stack;
  let engine: SecondEngine;
  let directory: string;
  const here = async (script: string) => {
    const { code, stdout, stderr } = await engine.run(script, directory);
    if (code !== 0) throw new Error(`${script} → ${code}\n${stdout}\n${stderr}`);
    return stdout;
  };

  beforeAll(async () => {
    engine = await startSecondEngine();
    directory = await mkdtemp(path.join(tmpdir(), 'lbh-'));
    lost = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'shop' } }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }, { environment: { SHOP: null } }),
      },
      volumes: { media: {} },
      agent: { volumes: ['.:/config:ro'] },
      receiver: false,
      startAgent: false,
    });
    await writeFile(path.join(lost.directory, '.env'), 'SHOP=open\n');
    await engine.load(IMAGE, 'postgres:17', 'node:24-trixie-slim');
  });
  afterAll(async () => {
    await engine?.stop();
    await lost?.destroy();
    if (directory) await rm(directory, { recursive: true, force: true });
  });

  it('gets a whole project back: Compose file, .env, databases with their roles, and volumes', async () => {
    await lost.compose('up', '--detach', '--wait');
    await lost.psql(
      `CREATE ROLE clerk LOGIN PASSWORD 'clerk-canary';
       CREATE TABLE t AS SELECT generate_series(1, 99) AS i; ALTER TABLE t OWNER TO clerk`,
      { database: 'shop' },
    );
    await lost.exec('web', ['sh', '-c', 'echo photo >/media/p; chown 33:44 /media/p']);
    expect((await lost.backup()).report.status).toBe('ok');
    await lost.compose('down', '--volumes', '--timeout', '0');
    // Only the backups are left.
    await cp(path.join(lost.directory, 'backups'), path.join(directory, 'backups'), { recursive: true });
    const restore = `docker run --rm --network none -v "$PWD:/project" -v "$PWD/backups:/from:ro" ${IMAGE} restore latest --all --from /from`;
    const out = await here(restore);
    expect(out).toContain('.env, compose.yaml');
    expect(await readFile(path.join(directory, '.env'), 'utf8')).toBe('SHOP=open\n');
    // The same command may run again, but replaces no file that has changed.
    expect((await engine.run(restore, directory)).code).toBe(0);
    await writeFile(path.join(directory, '.env'), 'SHOP=changed\n');
    const again = await engine.run(restore, directory);
    expect(again.stderr).toMatch(/already has \.env.*TREE_TARGET_NOT_EMPTY/);
    expect(await readFile(path.join(directory, '.env'), 'utf8')).toBe('SHOP=changed\n');
    await writeFile(path.join(directory, '.env'), 'SHOP=open\n');
    // Both hosts are this machine, so the socket has another path here.
    const file = path.join(directory, 'compose.yaml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/"[^"]+(?=:\/var\/run\/docker\.sock)/, `"${engine.socket}`));
    // What the command prints is what runs. Only the question needs a person.
    const commands = [...out.matchAll(/^ {4}(.*)$/gm)].map(([, line = '']) => line);
    expect(commands.join('\n')).toContain('up --detach --wait db lifeboat');
    expect(await readFile(path.join(directory, 'restore-data.sh'), 'utf8')).toContain(commands.join('\n'));
    const script = commands.map((line) => line.replace(/ exec (.*--all.*)$/, ' exec -T $1 --yes')).join('\n');
    await here(`export COMPOSE_PROGRESS=quiet\n${script}`);
    const at = `docker compose --project-name ${lost.project} exec -T`;
    const login = 'env PGPASSWORD=clerk-canary psql -h db -U clerk -Atc "SELECT count(*) FROM t" shop';
    expect(await here(`${at} db ${login}`)).toBe('99\n');
    expect(await here(`${at} web sh -c 'cat /media/p; stat -c %u:%g /media/p; echo $SHOP'`)).toBe(
      'photo\n33:44\nopen\n',
    );
    expect(await here(`${at} lifeboat lifeboat backup`)).toMatch(/ok/);
    await here(`docker compose --project-name ${lost.project} down --volumes --timeout 0`);
  });

  it('as a Swarm, has labels under `deploy.labels`, and one project for each node', async () => {
    const mount = (volume: string, at: string) => `type=volume,source=${volume},target=${at}`;
    // A stack needs an overlay network, which this engine cannot have. Else, this is what `docker stack deploy` does.
    const service = (name: string, ...args: string[]) =>
      here(
        `docker service create --quiet --network host --name shop_${name} --no-resolve-image
         --container-label com.docker.stack.namespace=shop ${args.join(' ')}`.replace(/\s+/g, ' '),
      );
    await here('docker swarm init --advertise-addr 127.0.0.1');
    await service(
      'web',
      ...['--label lifeboat.volumes=media', '--init', '--mount', mount('shop_media', '/media')],
      'node:24-trixie-slim sleep 86400',
    );
    await service(
      'lifeboat',
      ...['--mode global', `--mount type=bind,source=${engine.socket},target=/var/run/docker.sock`],
      ...['--mount', mount('shop_backups', '/backups'), '--mount', mount('shop_spool', '/spool')],
      ...["--env 'LIFEBOAT_PROJECT=shop-{{.Node.ID}}'", '--env LIFEBOAT_SCOPE=shop', IMAGE],
    );
    const idOf = async (name: string) =>
      (await here(`docker ps --quiet --filter label=com.docker.swarm.service.name=shop_${name}`)).trim();
    const [web, agent, node] = [await idOf('web'), await idOf('lifeboat'), (await here('docker node ls -q')).trim()];
    const lifeboat = (line: string) => engine.run(`docker exec ${agent} lifeboat ${line}`);
    await here(`docker exec ${web} sh -c 'echo stored >/media/p'`);
    const backup = await lifeboat('backup');
    expect(backup.code, backup.stdout + backup.stderr).toBe(0);
    const status = await lifeboat('status --all-hosts --json');
    checkOutput(['status', '--all-hosts', '--json'], status.stdout);
    expect(status.code).toBe(0);
    expect(JSON.parse(status.stdout)).toMatchObject({
      hosts: [{ project: `shop-${node}`, late: false, sources: [{ name: 'shop.web.media', status: 'ok' }] }],
    });
    // Swarm would start another container next to one that Lifeboat stops and starts again.
    await here(`docker exec ${web} sh -c 'echo newer >/media/p'`);
    const restore = await lifeboat('restore latest shop.web.media --yes');
    expect(restore.code, restore.stdout + restore.stderr).toBe(0);
    expect(restore.stdout + restore.stderr).toMatch(/Swarm would replace it: .*docker service update --force/);
    expect(await here(`docker exec ${web} cat /media/p`)).toBe('stored\n');
    expect(await idOf('web')).toBe(web);
  });
});
