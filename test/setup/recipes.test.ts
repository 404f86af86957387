import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/plan/model.ts';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { planProposals } from '../../src/setup/propose.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { selectByGlobs } from '../../src/store/filesystem/glob.ts';
import { pathFromText } from '../../src/store/filesystem/path.ts';
import { withFiles } from './files.ts';

/** Plans the Compose file of each recipe, as Lifeboat would plan the containers of it. */
const DOCS = path.join(import.meta.dirname, '../../docs/recipes');

const recipes = readdirSync(DOCS)
  .filter((name) => name !== 'README.md')
  .flatMap((page) =>
    readFileSync(path.join(DOCS, page), 'utf8')
      .split(/^## /m)
      .slice(1)
      .map((section) => ({ product: section.split('\n')[0] ?? '', section })),
  );

async function planOf(section: string): Promise<Plan> {
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(section) ?? [];
  const project = await readComposeProject(await withFiles({ 'compose.yml': yaml }), [], {});
  return planProposals(
    servicesOf(project, () => 'directory'),
    [],
  );
}

/** Paths that a backup has or lacks, for the recipes that exclude some. `kept` also stands for what products need. */
const PATHS: Record<string, { source: string; kept: string[]; left: string[] }> = {
  Immich: {
    source: 'immich-server.data',
    kept: ['upload/u/a.jpg', 'library/x/thumbs/b.jpg', 'thumbs/.immich', 'encoded-video/.immich', 'backups/.immich'],
    left: ['thumbs/u/ab/cd/x.webp', 'encoded-video/u/ab/cd/x.mp4', 'backups/immich-db-backup-1.sql.gz'],
  },
  Nextcloud: {
    source: 'app.nextcloud',
    kept: ['config/config.php', 'data/me/files/preview/a.jpg', 'data/appdata_x1/theming/logo'],
    left: ['data/appdata_x1/preview/1/2/a.png'],
  },
  Mastodon: {
    source: 'web.mastodon-public-system',
    kept: ['media_attachments/files/1/original/a.png', 'accounts/avatars/cache.png'],
    left: ['cache/media_attachments/files/1/a.png'],
  },
  Synapse: {
    source: 'synapse.data',
    kept: ['homeserver.yaml', 'media_store/local_content/ab/cd/x', 'media_store/local_thumbnails/ab/cd/x'],
    left: ['media_store/remote_content/o/ab', 'media_store/url_cache/2026/x', 'media_store/url_cache_thumbnails/x'],
  },
  Odoo: { source: 'web.odoo-web-data', kept: ['filestore/shop/ab/abcd'], left: ['sessions/ab/abcd'] },
  Gitea: {
    source: 'server.data',
    kept: ['git/repositories/a/log/x', 'gitea/conf/app.ini', 'gitea/attachments/a'],
    left: ['gitea/log/gitea.log', 'gitea/indexers/issues.bleve/x'],
  },
  Discourse: { source: 'discourse.discourse_data', kept: ['public/uploads/x'], left: ['public/backups/x.tar.gz'] },
  Zulip: { source: 'zulip.zulip', kept: ['uploads/files/x', 'zulip-secrets.conf'], left: ['backups/x.tar'] },
};

test('there is a recipe for each product', () => {
  expect(recipes.length).toBeGreaterThanOrEqual(17);
  expect(Object.keys(PATHS).filter((name) => !recipes.some(({ product }) => product === name))).toEqual([]);
});

describe.each(recipes)('$product', ({ product, section }) => {
  test('leads to the sources that it names, without a problem', async () => {
    const plan = await planOf(section);
    expect(plan.problems).toEqual([]);
    const [, named = ''] = /^Sources: (.*)$/m.exec(section) ?? [];
    expect(plan.sources.map(({ name }) => name)).toEqual([...named.matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  });

  test('says what it leaves out', async () => {
    expect(section).toContain('**Left out:**');
    const plan = await planOf(section);
    const excluding = plan.sources.filter((source) => source.kind === 'volume' && source.exclude.length > 0);
    const paths = PATHS[product];
    expect(excluding.map(({ name }) => name)).toEqual(paths ? [paths.source] : []);
    for (const source of excluding) {
      if (source.kind !== 'volume' || !paths) continue;
      const leaves = selectByGlobs(source.exclude);
      const isLeft = (name: string) => leaves(pathFromText(name), false);
      expect(paths.left.filter((name) => !isLeft(name))).toEqual([]);
      expect(paths.kept.filter(isLeft)).toEqual([]);
    }
  });
});
