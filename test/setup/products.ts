/** Compose files as products document them, or as people write them, shortened to what decides about labels. */

interface Product {
  product: string;
  yaml: string;
  /** other files of the project */
  files?: Record<string, string>;
  /** that `lifeboat init` leads to, sorted */
  sources: string[];
  /** those whose service stops for a backup */
  stopped: string[];
}

/** Products with Compose files without labels. */
export const PRODUCTS: Product[] = [
  {
    product: 'Mattermost',
    yaml: `services:
  postgres:
    image: postgres:\${POSTGRES_IMAGE_TAG:-18}-alpine
    restart: unless-stopped
    security_opt: [no-new-privileges:true]
    read_only: true
    tmpfs: [/tmp, /var/run/postgresql]
    volumes: ["\${POSTGRES_DATA_PATH:-./volumes/db/var/lib/postgresql}:/var/lib/postgresql"]
    environment: [TZ, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB]
  mattermost:
    depends_on: [postgres]
    image: mattermost/mattermost-enterprise-edition:11
    volumes:
      - ./volumes/app/mattermost/config:/mattermost/config:rw
      - ./volumes/app/mattermost/data:/mattermost/data:rw
      - ./volumes/app/mattermost/logs:/mattermost/logs:rw
      - ./volumes/app/mattermost/plugins:/mattermost/plugins:rw
`,
    sources: [
      ...['mattermost.mattermost-config', 'mattermost.mattermost-data', 'mattermost.mattermost-plugins'],
      'postgres.postgres',
    ],
    stopped: [],
  },
  {
    product: 'Penpot',
    yaml: `networks:
  penpot:
volumes:
  penpot_postgres_v15:
  penpot_assets:
services:
  penpot-frontend:
    image: "penpotapp/frontend:latest"
    ports: ["9001:8080"]
    volumes: [penpot_assets:/opt/data/assets]
    depends_on: [penpot-backend, penpot-exporter]
  penpot-backend:
    image: "penpotapp/backend:latest"
    volumes: [penpot_assets:/opt/data/assets]
    depends_on:
      penpot-postgres: { condition: service_healthy }
  penpot-exporter:
    image: "penpotapp/exporter:latest"
  penpot-postgres:
    image: "postgres:15"
    stop_signal: SIGINT
    volumes: [penpot_postgres_v15:/var/lib/postgresql/data]
    environment: [POSTGRES_INITDB_ARGS=--data-checksums, POSTGRES_DB=penpot]
  penpot-valkey:
    image: valkey/valkey:8.1
`,
    sources: ['penpot-frontend.penpot_assets', 'penpot-postgres.postgres'],
    stopped: [],
  },
  {
    product: 'Taiga',
    files: { 'taiga-gateway/taiga.conf': '' },
    yaml: `x-environment: &default-back-environment
  POSTGRES_DB: taiga
  POSTGRES_HOST: taiga-db
x-volumes: &default-back-volumes
  - taiga-static-data:/taiga-back/static
  - taiga-media-data:/taiga-back/media
services:
  taiga-db:
    image: postgres:12.3
    volumes: [taiga-db-data:/var/lib/postgresql/data]
  taiga-back:
    image: taigaio/taiga-back:latest
    environment: *default-back-environment
    volumes: *default-back-volumes
  taiga-async:
    image: taigaio/taiga-back:latest
    entrypoint: ["/taiga-back/docker/async_entrypoint.sh"]
    environment: *default-back-environment
    volumes: *default-back-volumes
  taiga-async-rabbitmq:
    image: rabbitmq:3.8-management-alpine
    volumes: [taiga-async-rabbitmq-data:/var/lib/rabbitmq]
  taiga-gateway:
    image: nginx:1.19-alpine
    volumes:
      - ./taiga-gateway/taiga.conf:/etc/nginx/conf.d/default.conf
      - taiga-static-data:/taiga/static
      - taiga-media-data:/taiga/media
volumes:
  taiga-static-data:
  taiga-media-data:
  taiga-db-data:
  taiga-async-rabbitmq-data:
`,
    sources: [
      ...['taiga-async-rabbitmq.taiga-async-rabbitmq-data', 'taiga-back.taiga-media-data'],
      ...['taiga-back.taiga-static-data', 'taiga-db.postgres'],
    ],
    stopped: ['taiga-async-rabbitmq.taiga-async-rabbitmq-data'],
  },
  {
    product: 'WordPress',
    yaml: `services:
  wordpress:
    image: wordpress
    ports: [8080:80]
    volumes: [wordpress:/var/www/html]
  db:
    image: bitnamilegacy/mariadb:11.4
    volumes: [db:/bitnami/mariadb]
volumes:
  wordpress:
  db:
`,
    sources: ['db.db', 'wordpress.wordpress'],
    stopped: ['db.db'],
  },
  {
    product: 'Rocket.Chat',
    yaml: `services:
  rocketchat:
    image: registry.rocket.chat/rocketchat/rocket.chat:7
    depends_on: [mongodb]
    volumes: ["./uploads:/app/uploads"]
  mongodb:
    image: docker.io/bitnamilegacy/mongodb:7.0
    volumes: ["mongodb_data:/bitnami/mongodb"]
  mongo-express:
    image: mongo-express
volumes:
  mongodb_data: { driver: local }
`,
    sources: ['mongodb.mongodb_data', 'rocketchat.app-uploads'],
    stopped: ['mongodb.mongodb_data'],
  },
  {
    product: 'SonarQube',
    yaml: `services:
  sonarqube:
    image: sonarqube:community
    read_only: true
    depends_on: { db: { condition: service_healthy } }
    volumes:
      - sonarqube_data:/opt/sonarqube/data
      - sonarqube_extensions:/opt/sonarqube/extensions
      - sonarqube_logs:/opt/sonarqube/logs
      - sonarqube_temp:/opt/sonarqube/temp
  db:
    image: postgres:17
    volumes:
      - postgresql:/var/lib/postgresql
      - postgresql_data:/var/lib/postgresql/data
volumes:
  sonarqube_data:
  sonarqube_temp:
  sonarqube_extensions:
  sonarqube_logs:
  postgresql:
  postgresql_data:
`,
    sources: ['db.postgres', 'sonarqube.sonarqube_data', 'sonarqube.sonarqube_extensions'],
    stopped: [],
  },
  {
    product: 'a sensor database of Timescale',
    yaml: `services:
  timescaledb:
    image: timescale/timescaledb-ha:pg17
    environment: { POSTGRES_PASSWORD: x }
    volumes: ["ts:/home/postgres/pgdata/data"]
  grafana:
    image: grafana/grafana
    volumes: ["grafana:/var/lib/grafana", "./provisioning:/etc/grafana/provisioning:ro"]
  homeassistant:
    image: ghcr.io/home-assistant/home-assistant:stable
    privileged: true
    volumes: ["./config:/config", "/etc/localtime:/etc/localtime:ro", "/run/dbus:/run/dbus:ro"]
volumes:
  ts:
  grafana:
`,
    sources: ['grafana.grafana', 'homeassistant.config', 'timescaledb.postgres'],
    stopped: [],
  },
  {
    product: 'a shop in Django',
    yaml: `x-app: &app
  build: .
  env_file: .env.prod
  volumes:
    - static:/app/static
    - media:/app/media
    - .:/app/src
services:
  fix-perms:
    image: busybox
    command: chown -R 70:70 /pgdata
    volumes: [pgdata:/pgdata, media:/media]
  migrate:
    <<: *app
    command: python manage.py migrate
    restart: "no"
  web:
    <<: *app
    command: gunicorn shop.wsgi
    depends_on:
      migrate: { condition: service_completed_successfully }
  worker:
    <<: *app
    command: celery -A shop worker
  loadtest:
    <<: *app
    profiles: [test]
  nginx:
    image: nginx:alpine
    volumes: ["static:/static:ro", "media:/media:ro", "./certs:/etc/letsencrypt"]
  db:
    build: ./db
    image: acme/shop-db
    volumes:
      - pgdata:/var/lib/postgresql/data
      - ./backups:/backups
      - ./db/init:/docker-entrypoint-initdb.d
  dump:
    image: postgres:17
    entrypoint: [sh, -c, "while true; do pg_dump -h db shop > /backups/shop.sql; sleep 86400; done"]
    volumes: ["./backups:/backups"]
  redis:
    image: redis:7
    volumes: [redis:/data]
volumes:
  static:
  media:
  pgdata:
  redis:
`,
    sources: ['db.postgres', 'nginx.etc-letsencrypt', 'web.media', 'web.static'],
    stopped: [],
  },
  {
    product: 'Nextcloud with volumes of its own',
    yaml: `services:
  app:
    image: nextcloud:31
    volumes: ["nc:/var/www/html", "files:/data"]
  cron:
    image: nextcloud:31
    entrypoint: /cron.sh
    volumes: ["nc:/var/www/html", "files:/data"]
  db:
    image: pgautoupgrade/pgautoupgrade:17-alpine
    environment: { PGDATA: /var/lib/postgresql/data/17 }
    volumes: ["pg:/var/lib/postgresql/data"]
  backup:
    image: offen/docker-volume-backup:v2
    volumes: ["files:/backup/files:ro", "./archive:/archive"]
volumes:
  nc: { name: acme-nextcloud }
  files: { external: true, name: acme-files }
  pg: { external: true }
`,
    sources: ['app.acme-files', 'app.acme-nextcloud', 'db.postgres'],
    stopped: [],
  },
  {
    product: 'Zabbix',
    yaml: `services:
  zabbix-server:
    image: zabbix/zabbix-server-pgsql:alpine-7.0-latest
    volumes:
      - /etc/localtime:/etc/localtime:ro
      - ./zbx_env/usr/lib/zabbix/alertscripts:/usr/lib/zabbix/alertscripts:ro
      - dbsocket:/var/run/postgresql
      - snmptraps:/var/lib/zabbix/snmptraps
    secrets: [POSTGRES_PASSWORD]
  zabbix-web:
    image: zabbix/zabbix-web-nginx-pgsql:alpine-7.0-latest
  server-db-init:
    image: zabbix/zabbix-server-pgsql:alpine-7.0-latest
    command: init_db_only
    restart: "no"
  postgres-server:
    image: postgres:16-alpine
    volumes: ["./zbx_env/var/lib/postgresql/data:/var/lib/postgresql/data:rw"]
    secrets: [POSTGRES_PASSWORD]
volumes:
  dbsocket:
  snmptraps:
secrets:
  POSTGRES_PASSWORD: { file: ./env_vars/.POSTGRES_PASSWORD }
`,
    sources: ['postgres-server.postgres', 'zabbix-server.snmptraps'],
    stopped: [],
  },
  {
    product: 'GitLab',
    yaml: `services:
  gitlab:
    image: gitlab/gitlab-ce:18.0.0-ce.0
    shm_size: 256m
    volumes:
      - '$GITLAB_HOME/config:/etc/gitlab'
      - '$GITLAB_HOME/logs:/var/log/gitlab'
      - '$GITLAB_HOME/data:/var/opt/gitlab'
`,
    sources: ['gitlab.etc-gitlab', 'gitlab.var-opt-gitlab'],
    stopped: [],
  },
  {
    product: 'Matrix with several bridges, and a server for tools',
    yaml: `services:
  synapse: { image: matrixdotorg/synapse, volumes: ["./synapse:/data"] }
  bridge: { image: dock.mau.dev/mautrix/signal, volumes: ["./bridge:/data"] }
  db: { image: "postgres:16", command: "-c max_connections=200", volumes: ["./pg:/var/lib/postgresql/data"] }
  pgadmin: { image: dpage/pgadmin4, profiles: [tools], volumes: ["pgadmin:/var/lib/pgadmin"] }
  element: { image: vectorim/element-web, volumes: ["./element.json:/app/config.json:ro"] }
  sliding: { image: postgres, profiles: [old], volumes: ["old:/var/lib/postgresql/data"] }
volumes: { pgadmin: {}, old: {} }
`,
    sources: ['bridge.data', 'db.postgres', 'pgadmin.pgadmin', 'sliding.postgres', 'synapse.data'],
    stopped: [],
  },
];
