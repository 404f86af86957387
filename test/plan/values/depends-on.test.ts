import { expect, test } from 'vitest';
import { allDependencies } from '../../../src/plan/values/depends-on.ts';

const container = (service: string, dependsOn: string, project = 'shop') => ({
  project,
  service,
  labels: { 'com.docker.compose.depends_on': dependsOn },
});

test('a service depends on what its dependencies depend on, in its own project, whatever circles there are', () => {
  const web = container('web', 'sidekiq:service_started:false');
  const all = [
    web,
    container('sidekiq', 'api:service_started:true,redis:service_healthy:false'),
    container('api', 'db:service_healthy:false,web:service_started:false'),
    container('sidekiq', 'secret:service_started:false', 'blog'),
  ];
  expect(allDependencies(web, all)).toEqual(['api', 'db', 'redis', 'sidekiq']);
  expect(allDependencies(container('alone', ''), all)).toEqual([]);
});
