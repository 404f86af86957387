import { readFileSync } from 'node:fs';
import { registerSecret } from '../base/redact.ts';
import { parseSettings, type Settings } from '../plan/settings.ts';
import { secretValues } from './secret-values.ts';

/** Reads and checks the settings, and registers their secrets. Throws SETTING_*. */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const settings = parseSettings(env, (file) => readFileSync(file, 'utf8'));
  for (const secret of secretValues(settings)) registerSecret(secret);
  return settings;
}
