"""The card of Service Connector on a Flask dashboard: after `add_card(app)`, write
`{{ service_connectors }}` in a template. It knows who asks by the dashboard's own session:
`identity: { flask: { key_file: …, email: [user, email] } }` reads `session["user"]["email"]`."""

from markupsafe import Markup


def add_card(app, base="/service-connectors"):
    app.jinja_env.globals["service_connectors"] = Markup(
        '<script type="module" src="{}/card.js"></script>\n<service-connectors></service-connectors>'
    ).format(base)
