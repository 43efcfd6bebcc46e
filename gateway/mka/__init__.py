"""MACsec Key Agreement without I/O: frames, answers and the time in; frames, commands, events out.

From the outside to the inside:

- ``port`` is the face: one interface with its MACsec SecY. ``settings``, ``commands``, ``events``
  and ``views`` are what crosses the border.
- ``participant`` is one CAK on that port: its own identity, ``peers`` and ``election``. In a CAK
  rollover a port has two, and ``principal`` says which of them decides.
- ``controlled_port`` drives the SAs of the SecY through a SAK rollover, by the table in
  ``states``; ``key_server`` says when a key server makes a new SAK; ``sak`` what one is;
  ``obstacle`` why there is none.
- ``hybrid`` derives a CAK from what an IKE SA exports; ``keys`` all below a CAK.
- ``registry``, ``wire``, ``identifiers``, ``announcement``, ``sets``, ``mkpdu``: octets and what
  they mean.

Limits stand in ``limits``, each with its source; a rule carries its clause of IEEE 802.1X-2010
where it is applied.
"""
